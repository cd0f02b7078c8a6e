"""Summarizers that run a language model themselves, by transformers or vLLM, and how a model is sampled."""

from __future__ import annotations

import gc
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

from recbole_gserec.errors import InterruptedWorkError, SettingError, import_optional, not_none
from recbole_gserec.preprocess.answers import FIELD, READER
from recbole_gserec.preprocess.description import model_identity
from recbole_gserec.preprocess.prompts import Prompt
from recbole_gserec.preprocess.summarizers.base import Completion
from recbole_gserec.preprocess.summarizers.chat_tokens import ChatTokens

if TYPE_CHECKING:
    from recbole_gserec.settings import PreprocessSettings

_LATER_TEMPERATURE = 0.6
ANSWER_SCHEMA = {
    "type": "object",
    "properties": {FIELD: {"type": "string", "minLength": 1}},
    "required": [FIELD],
    "additionalProperties": False,
}
"""JSON schema of the requested answer."""


class Sampling(NamedTuple):
    """Sampling of one attempt; every value is given, because models have their own defaults."""

    temperature: float
    top_p: float
    top_k: int
    repetition_penalty: float
    seed: int
    max_tokens: int

    @classmethod
    def of_attempt(cls, settings: PreprocessSettings, attempt: int) -> Sampling:
        """Return the settings' sampling for the first attempt; later ones have other seeds and a higher temperature."""
        temperature = settings.llm_temperature if attempt == 1 else max(settings.llm_temperature, _LATER_TEMPERATURE)
        return cls(
            temperature,
            settings.llm_top_p,
            settings.llm_top_k,
            settings.llm_repetition_penalty,
            settings.llm_seed + attempt - 1,
            settings.llm_max_tokens,
        )


def answer_settings(settings: PreprocessSettings) -> dict[str, Any]:
    """Return everything that affects the answers of a language model, as JSON values."""
    names = """
        llm_context_length llm_max_tokens llm_temperature llm_top_p llm_top_k llm_repetition_penalty llm_seed llm_dtype
        llm_json_schema llm_engine_args
    """
    tokenizer = {"tokenizer": model_identity(settings.llm_tokenizer)} if settings.llm_tokenizer else {}
    values = {name: getattr(settings, name) for name in names.split()}
    return {**model_identity(not_none(settings.llm)), **tokenizer, **values, "reader": READER}


class Generated(NamedTuple):
    """An answer: its text, whether it ended by itself, and its number of tokens."""

    text: str
    is_whole: bool
    n_tokens: int


class LocalModelSummarizer(ABC):
    """Fits prompts to a model's context and reads its answers; subclasses generate them.

    Args:
        settings: Settings of the offline stage.
    """

    name: str
    speaks_json = True
    failure = None

    def __init__(self, settings: PreprocessSettings):
        self._settings = settings
        self.settings = answer_settings(settings)
        self.batch_size = settings.llm_batch_size
        self.tokens = ChatTokens(
            not_none(settings.llm), settings.llm_tokenizer, settings.llm_context_length, settings.llm_max_tokens
        )

    def shorten(self, text: str, length: int) -> str:
        return self.tokens.shorten(text, length)

    def complete(self, prompts: Sequence[Prompt], attempt: int) -> list[Completion]:
        fitted = [self.tokens.fit(prompt) for prompt in prompts]
        answers = self.generate([prompt.tokens for prompt in fitted], Sampling.of_attempt(self._settings, attempt))
        return [
            Completion(
                answer.text,
                answer.is_whole,
                self.tokens.opens_reasoning,
                prompt.n_records,
                len(prompt.tokens),
                answer.n_tokens,
            )
            for prompt, answer in zip(fitted, answers, strict=True)
        ]

    @abstractmethod
    def generate(self, prompts: Sequence[list[int]], sampling: Sampling) -> list[Generated]:
        """Answer each prompt, given as tokens."""

    @abstractmethod
    def close(self) -> None:
        """Free the memory of the model."""


class TransformersSummarizer(LocalModelSummarizer):
    """Any causal language model, on the GPU if there is one.

    Raises:
        SettingError: For ``llm_json_schema`` and ``llm_engine_args``, which only vLLM and servers support.
    """

    name = "transformers"

    def __init__(self, settings: PreprocessSettings):
        super().__init__(settings)
        for name in ("llm_json_schema", "llm_engine_args"):
            if getattr(settings, name):
                raise SettingError(f"{name} only applies to the summarizers vllm and openai")

    @cached_property
    def _model(self) -> Any:
        import torch

        transformers = import_optional("transformers", "transformers", "Summarizer 'transformers'")
        try:
            model = transformers.AutoModelForCausalLM.from_pretrained(
                self._settings.llm, dtype=self._settings.llm_dtype
            )
        except (OSError, ValueError) as error:
            reason = str(error).strip().split("\n")[0][:200]
            raise SettingError(f"llm: no language model in '{self._settings.llm}' ({reason})") from error
        self._ends = self._tokens_that_end(model.generation_config.eos_token_id)
        # Models have their own defaults, also for values that are not requested here.
        model.generation_config = transformers.GenerationConfig()
        return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")

    def _tokens_that_end(self, of_model: int | list[int] | None) -> list[int]:
        own = of_model if isinstance(of_model, list) else [of_model]
        return sorted({token for token in [*own, self.tokens.tokenizer.eos_token_id] if token is not None})

    def generate(self, prompts: Sequence[list[int]], sampling: Sampling) -> list[Generated]:
        import torch

        model, width = self._model, max(map(len, prompts))
        # Padding is on the left, so that all prompts continue in the same column. It consists of the prompt's own
        # tokens, because a repetition penalty looks at all tokens: padding with the end token would delay the end of
        # the answer.
        rows = [tokens[:1] * (width - len(tokens)) + tokens for tokens in prompts]
        masks = [[0] * (width - len(tokens)) + [1] * len(tokens) for tokens in prompts]
        inputs, mask = torch.tensor(rows, device=model.device), torch.tensor(masks, device=model.device)
        # The sampling's seed must not change the caller's random state.
        with torch.inference_mode(), torch.random.fork_rng():
            torch.manual_seed(sampling.seed)
            outputs = model.generate(
                input_ids=inputs, attention_mask=mask, generation_config=self._generation(sampling, width)
            )[:, width:]
        return [self._read(row) for row in outputs.tolist()]

    def _generation(self, sampling: Sampling, width: int) -> Any:
        from transformers import GenerationConfig

        choice = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
        is_sampled = sampling.temperature > 0
        return GenerationConfig(
            do_sample=is_sampled,
            **(choice if is_sampled else {}),
            repetition_penalty=sampling.repetition_penalty,
            max_new_tokens=max(1, min(sampling.max_tokens, self.tokens.context_length - width)),
            eos_token_id=self._ends or None,
            # Tokens after the end of an answer are ignored.
            pad_token_id=self._ends[0] if self._ends else None,
        )

    def _read(self, tokens: list[int]) -> Generated:
        end = next((index for index, token in enumerate(tokens) if token in self._ends), None)
        answer = tokens[:end]
        text = self.tokens.tokenizer.decode(answer, skip_special_tokens=True)
        return Generated(text, end is not None, len(answer))

    def close(self) -> None:
        self.__dict__.pop("_model", None)


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

        structure = StructuredOutputsParams(json=ANSWER_SCHEMA) if self._settings.llm_json_schema else None
        return SamplingParams(**sampling._asdict(), structured_outputs=structure)

    def _started(self) -> Any:
        if self._engine is None:
            for name, value in _ENVIRONMENT.items():
                os.environ.setdefault(name, value)
            vllm = import_optional("vllm", "vllm", "Summarizer 'vllm'")
            import torch

            arguments = {
                "model": self._settings.llm,
                "tokenizer": self._settings.llm_tokenizer,
                "dtype": self._settings.llm_dtype,
                "max_model_len": self.tokens.context_length,
                "seed": self._settings.llm_seed,
                "enable_prefix_caching": True,
                **({} if torch.cuda.is_available() else _arguments_for_cpu(self.tokens.context_length)),
                **self._settings.llm_engine_args,
            }
            try:
                self._engine = vllm.LLM(**arguments)
            except Exception as error:
                reason = str(error).strip().split("\n")[0][:300]
                raise SettingError(f"vLLM does not start with llm '{self._settings.llm}': {reason}") from error
        return self._engine

    def close(self) -> None:
        if self._engine is not None:
            self._engine.llm_engine.engine_core.shutdown()
            self._engine = None
            gc.collect()
