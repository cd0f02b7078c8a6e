"""Prompts as tokens of a language model: truncated, put into its chat template, and fitted to its context."""

from bisect import bisect_left
from functools import cached_property
from typing import Any, NamedTuple

from recbole_gserec.errors import SettingError, import_optional
from recbole_gserec.preprocess.answers import ends_in_reasoning
from recbole_gserec.preprocess.prompts import Prompt

LONGEST_CONTEXT = 8192
_LEAST_ANSWER = 4


class ChatPrompt(NamedTuple):
    """The input of a model for one prompt.

    Attributes:
        text: The prompt itself, outside of the chat template.
        tokens: The whole input.
        n_records: Number of history records that remain in it.
    """

    text: str
    tokens: list[int]
    n_records: int


class ChatTokens:
    """The tokenizer of a language model.

    Args:
        model: The model, whose context length applies.
        tokenizer: Path of the tokenizer, if it is not with the model.
        context_length: Maximum number of tokens of prompt and answer; by default the model's own, but at most 8192.
        max_tokens: Maximum number of tokens of an answer. At least a quarter of the context is always kept for the
            answer.
    """

    def __init__(self, model: str, tokenizer: str | None, context_length: int | None, max_tokens: int):
        self._model, self._name, self._context_length = model, tokenizer or model, context_length
        self._max_tokens = max_tokens

    @cached_property
    def tokenizer(self) -> Any:
        transformers = import_optional("transformers", "transformers", "Counting a language model's tokens")
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(self._name)
        except (OSError, ValueError) as error:
            raise SettingError(f"llm: no tokenizer in '{self._name}' ({_first_line(error)})") from error
        if not tokenizer.is_fast:
            raise SettingError(f"llm: the tokenizer in '{self._name}' does not report the positions of its tokens")
        return tokenizer

    @cached_property
    def context_length(self) -> int:
        """Maximum number of tokens of prompt and answer together."""
        if self._context_length:
            return self._context_length
        transformers = import_optional("transformers", "transformers", "Reading a language model's settings")
        try:
            config = transformers.AutoConfig.from_pretrained(self._model).get_text_config()
        except (OSError, ValueError) as error:
            raise SettingError(f"llm: no language model in '{self._model}' ({_first_line(error)})") from error
        return min(getattr(config, "max_position_embeddings", LONGEST_CONTEXT), LONGEST_CONTEXT)

    @cached_property
    def opens_reasoning(self) -> bool:
        """Whether the chat template opens a reasoning block that the answer has to close."""
        return ends_in_reasoning(self._in_template(""))

    def shorten(self, text: str, length: int) -> str:
        """Return the beginning of ``text``, at most ``length`` tokens; whitespace becomes single spaces."""
        text = " ".join(text.split())
        # Once is enough, unless the cut is inside a character of several tokens or changes the tokens of the rest.
        while len(offsets := self._encode(text, return_offsets_mapping=True)["offset_mapping"]) > length:
            text = text[: min(offsets[length - 1][1], len(text) - 1)].rstrip()
        return text

    def fit(self, prompt: Prompt) -> ChatPrompt:
        """Leave out as few of the oldest records as needed to leave room for an answer.

        Raises:
            SettingError: If not even one record fits.
        """
        limit = self.context_length - min(self._max_tokens, self.context_length // _LEAST_ANSWER)

        def fits(n_oldest: int) -> bool:
            return len(self._without(prompt, n_oldest).tokens) <= limit

        fitted, most = self._without(prompt, 0), len(prompt.records) - 1
        if len(fitted.tokens) > limit and most:
            fitted = self._without(prompt, bisect_left(range(most), True, lo=1, key=fits))
        if len(fitted.tokens) > limit:
            raise SettingError(
                f"llm_context_length {self.context_length} is too short for a prompt with one record "
                f"({len(fitted.tokens)} tokens) and an answer. Lower prompt_item_length, or use a model with a longer "
                "context"
            )
        return fitted

    def _without(self, prompt: Prompt, n_oldest: int) -> ChatPrompt:
        text = prompt._replace(records=prompt.records[n_oldest:]).text
        # A chat template adds its own special tokens.
        tokens = self._encode(self._in_template(text), add_special_tokens=not self.tokenizer.chat_template)
        return ChatPrompt(text, tokens["input_ids"], len(prompt.records) - n_oldest)

    def _encode(self, text: str, **options: bool) -> Any:
        # Lengths are checked here, so the library's own warning is not needed.
        return self.tokenizer(text, **{"add_special_tokens": False, "verbose": False, **options})

    def _in_template(self, text: str) -> str:
        if not self.tokenizer.chat_template:
            return text
        messages = [{"role": "user", "content": text}]
        return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]
