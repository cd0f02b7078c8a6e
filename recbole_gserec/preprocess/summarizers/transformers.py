"""Summaries by a language model in the library transformers: slow, but with nothing to install or start."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from recbole_gserec.errors import SettingError
from recbole_gserec.optional import import_optional
from recbole_gserec.preprocess.summarizers.local_model import Generated, LocalModelSummarizer
from recbole_gserec.preprocess.summarizers.sampling import Sampling

if TYPE_CHECKING:
    from recbole_gserec.preprocess.settings import PreprocessSettings


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
                raise SettingError(f"{name} is for the summarizers vllm and openai; transformers has no use for it")

    @cached_property
    def _model(self) -> Any:
        import torch

        transformers = import_optional("transformers", "transformers", "Summarizer 'transformers'")
        try:
            model = transformers.AutoModelForCausalLM.from_pretrained(self._given.llm, dtype=self._given.llm_dtype)
        except (OSError, ValueError) as error:
            reason = str(error).strip().split("\n")[0][:200]
            raise SettingError(f"llm: no language model in '{self._given.llm}' ({reason})") from error
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
