"""Summaries by a language model that vLLM runs in this process."""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from typing import Any

import psutil

from recbole_gserec.errors import InterruptedWorkError, SettingError
from recbole_gserec.optional import import_optional
from recbole_gserec.preprocess.summarizers.local_model import Generated, LocalModelSummarizer
from recbole_gserec.preprocess.summarizers.sampling import ANSWER_SCHEMA, Sampling

_SHARE_OF_FREE_MEMORY = 0.5
_TOKENS_AT_ONCE = 8192

# Each applies only if the user has not set it.
_ENVIRONMENT = {
    # Run the engine in this process, because a child process would outlive this one if it is killed.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # Binding threads to CPUs stalls on machines where other programs run.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    # Its warnings fill hundreds of lines, one per tensor of a converted model.
    "VLLM_LOGGING_LEVEL": "ERROR",
}


def _arguments_for_cpu(context_length: int) -> dict[str, Any]:
    memory = psutil.virtual_memory()
    return {
        # A prompt computed in two parts with its own seed fails there: "CPU Generator does not use offset".
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(context_length, _TOKENS_AT_ONCE),
        # Compiling takes minutes, and helps little for models that a CPU can run.
        "enforce_eager": True,
        # A share of the main memory, which other processes use too: vLLM would take nearly all of it, or refuse to
        # start.
        "gpu_memory_utilization": round(_SHARE_OF_FREE_MEMORY * memory.available / memory.total, 3),
    }


class VLLMSummarizer(LocalModelSummarizer):
    """Runs vLLM in this process.

    vLLM's answers depend on which prompts are computed together, and on its prefix cache. Batches are the same in every
    run, and each batch starts with an empty cache. On one machine, a run thus gives the same answers whether it was
    interrupted or not. Within a batch, the shared instruction is computed once.
    """

    name = "vllm"
    _engine = None

    def generate(self, prompts: Sequence[list[int]], sampling: Sampling) -> list[Generated]:
        engine = self._started()
        engine.reset_prefix_cache()
        inputs = [{"prompt_token_ids": tokens} for tokens in prompts]
        try:
            outputs = engine.generate(inputs, self._parameters(sampling), use_tqdm=False)
        except RuntimeError as error:
            reason = str(error).strip().split("\n")[0][:300]
            raise InterruptedWorkError(f"vLLM failed ({reason}). Earlier finished work is stored") from error
        answers = (output.outputs[0] for output in outputs)
        return [Generated(answer.text, answer.finish_reason == "stop", len(answer.token_ids)) for answer in answers]

    def _parameters(self, sampling: Sampling) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        structure = StructuredOutputsParams(json=ANSWER_SCHEMA) if self._given.llm_json_schema else None
        return SamplingParams(**sampling._asdict(), structured_outputs=structure)

    def _started(self) -> Any:
        if self._engine is None:
            for name, value in _ENVIRONMENT.items():
                os.environ.setdefault(name, value)
            vllm = import_optional("vllm", "vllm", "Summarizer 'vllm'")
            import torch

            arguments = {
                "model": self._given.llm,
                "tokenizer": self._given.llm_tokenizer,
                "dtype": self._given.llm_dtype,
                "max_model_len": self.tokens.context_length,
                "seed": self._given.llm_seed,
                "enable_prefix_caching": True,
                **({} if torch.cuda.is_available() else _arguments_for_cpu(self.tokens.context_length)),
                **self._given.llm_engine_args,
            }
            try:
                self._engine = vllm.LLM(**arguments)
            except Exception as error:
                reason = str(error).strip().split("\n")[0][:300]
                raise SettingError(f"vLLM does not start with llm '{self._given.llm}': {reason}") from error
        return self._engine

    def close(self) -> None:
        if self._engine is not None:
            self._engine.llm_engine.engine_core.shutdown()
            self._engine = None
            gc.collect()
