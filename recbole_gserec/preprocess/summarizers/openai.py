"""Summaries by a language model behind a server with OpenAI's protocol: vLLM's, many others, or OpenAI's own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from recbole_gserec.errors import SettingError, import_optional, not_none
from recbole_gserec.preprocess.prompts import Prompt, first_words
from recbole_gserec.preprocess.summarizers.base import Completion
from recbole_gserec.preprocess.summarizers.chat_tokens import ChatTokens
from recbole_gserec.preprocess.summarizers.local_model import ANSWER_SCHEMA, Sampling, answer_settings
from recbole_gserec.preprocess.summarizers.server import (
    BrokenAnswerError,
    ForeignRedirectError,
    api_key,
    bounded_client,
    check_address,
    explain,
    is_too_long,
    is_unknown_model,
    read_completion,
    read_models,
    refused_setting,
    wants_other_limit,
)

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from recbole_gserec.settings import PreprocessSettings

_REQUESTS_PER_PLACE = 4
_NO_KEY = "none"
_REFUSALS = (400, 413, 422)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 8.0
# At level INFO, the client's transport logs a line for every request.
_TALKATIVE_LOGGERS = ("httpx", "httpx2")


class OpenAISummarizer:
    """Asks a server, several prompts at once; the library ``openai`` repeats failed requests after growing pauses.

    Neutral values of ``top_k`` and ``repetition_penalty`` (0 and 1) are not sent, because OpenAI's own servers refuse
    these names. A vLLM server then uses the model's own values, unless started with ``--generation-config vllm``.

    If the server refuses a prompt but answers others, the prompt gets an empty answer. So does a prompt that is too
    long even with a single record. Any other error that remains after retries stops the work: running requests are
    completed, and no others start.

    Args:
        settings: Settings of the offline stage.

    Raises:
        SettingError: For ``llm_engine_args``, which only applies to vLLM in this process, and for an invalid address.
    """

    name = "openai"
    speaks_json = True

    def __init__(self, settings: PreprocessSettings):
        if settings.llm_engine_args:
            raise SettingError(
                "llm_engine_args only applies to the summarizer vllm. Set a server's arguments when starting it"
            )
        check_address(not_none(settings.llm_base_url))
        self._settings = settings
        self.settings = answer_settings(settings)
        # A batch ends with an idle server, and is lost if this process is killed, so it should be neither small nor
        # large.
        self.batch_size = max(settings.llm_batch_size, _REQUESTS_PER_PLACE * settings.llm_concurrency)
        self.failure: str | None = None
        self._fault: Exception | None = None
        self._has_answered = False
        # OpenAI's newer models require the name "max_completion_tokens", which older servers do not know.
        self._limit_name = "max_tokens"

    @cached_property
    def tokens(self) -> ChatTokens | None:
        """The model's tokenizer, if it is available here."""
        settings = self._settings
        if settings.llm_tokenizer is None:
            return None
        return ChatTokens(
            not_none(settings.llm), settings.llm_tokenizer, settings.llm_context_length, settings.llm_max_tokens
        )

    def shorten(self, text: str, length: int) -> str:
        return self.tokens.shorten(text, length) if self.tokens else first_words(text, length)

    def complete(self, prompts: Sequence[Prompt], attempt: int) -> list[Completion | None]:
        self.failure = self._fault = None
        import_optional("openai", "openai", "Summarizer 'openai'")
        from anyio.from_thread import start_blocking_portal

        for logger in map(logging.getLogger, _TALKATIVE_LOGGERS):
            if logger.level == logging.NOTSET:
                logger.setLevel(logging.WARNING)
        fitted = [self._fit(prompt) for prompt in prompts]
        # The event loop needs its own thread, because the caller (a notebook) may run one. On an exception such as
        # Ctrl-C, running requests are dropped.
        with start_blocking_portal() as portal:
            return portal.call(self._ask_all, fitted, Sampling.of_attempt(self._settings, attempt))

    def close(self) -> None:
        """Do nothing: connections end with each batch."""

    def _fit(self, prompt: Prompt) -> Prompt:
        if not (self.tokens and self._settings.llm_context_length):
            return prompt
        return prompt._replace(records=prompt.records[-self.tokens.fit(prompt).n_records :])

    def _client(self) -> AsyncOpenAI:
        from openai import AsyncOpenAI

        settings = self._settings
        # The login is kept out of the address, which the client's transport may log.
        address = urlsplit(not_none(settings.llm_base_url))
        login, _, index = address.netloc.rpartition("@")
        user, _, password = map(unquote, login.partition(":"))
        return AsyncOpenAI(
            base_url=address._replace(netloc=index).geturl(),
            # The library requires a key; private servers mostly do not.
            api_key=api_key() or _NO_KEY,
            timeout=settings.llm_timeout,
            max_retries=settings.llm_retries,
            http_client=bounded_client(settings.llm_timeout, (user, password) if login else None),
        )

    async def _ask_all(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Completion | None]:
        completions: list[Completion | None] = [None] * len(prompts)
        refusals: dict[int, Exception] = {}
        async with self._client() as client:
            # All workers share one iterator, so the first free worker takes the next prompt.
            waiting = iter(enumerate(prompts))
            workers = (
                self._work(client, waiting, sampling, completions, refusals)
                for _ in range(min(self._settings.llm_concurrency, len(prompts)))
            )
            await asyncio.gather(*workers)
            if refusals and not self._has_answered:
                # Every prompt is refused, so the prompts are not the cause.
                self._fault = self._fault or next(iter(refusals.values()))
            if self._fault:
                models = await self._models(client) if is_unknown_model(self._fault) else []
                self.failure = explain(self._fault, self._settings, models)
                # The exception contains the request, and with it the key.
                self._fault = None
        if self._has_answered:
            for index, error in refusals.items():
                completions[index] = Completion("", is_whole=not is_too_long(error))
        return completions

    async def _work(
        self,
        client: AsyncOpenAI,
        waiting: Iterator[tuple[int, Prompt]],
        sampling: Sampling,
        completions: list[Completion | None],
        refusals: dict[int, Exception],
    ) -> None:
        from openai import OpenAIError

        for index, prompt in waiting:
            if self._fault:
                return
            try:
                completions[index] = await self._ask(client, prompt, sampling)
                self._has_answered = True
            except (OpenAIError, BrokenAnswerError, ForeignRedirectError) as error:
                if self._is_refusal_of_one(error):
                    refusals[index] = error
                else:
                    self._fault = self._fault or error

    def _is_refusal_of_one(self, error: Exception) -> bool:
        if getattr(error, "status_code", None) not in _REFUSALS or is_unknown_model(error):
            return False
        return self._has_answered or is_too_long(error) or not refused_setting(error)

    async def _ask(self, client: AsyncOpenAI, prompt: Prompt, sampling: Sampling) -> Completion:
        """Complete one prompt; while it is too long, leave out the older half of its records."""
        from openai import APIStatusError

        while True:
            limit_name = self._limit_name
            try:
                completion = await self._send(client, self._request(prompt.text, sampling))
            except APIStatusError as error:
                if is_too_long(error):
                    if len(prompt.records) == 1:
                        raise
                    prompt = prompt._replace(records=prompt.records[len(prompt.records) // 2 :])
                elif limit_name == "max_tokens" and wants_other_limit(error):
                    self._limit_name = "max_completion_tokens"
                else:
                    raise
            else:
                return completion._replace(n_records=len(prompt.records))

    def _request(self, text: str, sampling: Sampling) -> dict[str, Any]:
        request: dict[str, Any] = {
            "model": self._settings.llm,
            "messages": [{"role": "user", "content": text}],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
        }
        if self._settings.llm_json_schema:
            schema = {"name": "summary", "schema": ANSWER_SCHEMA}
            request["response_format"] = {"type": "json_schema", "json_schema": schema}
        # Some versions of the library do not know these names.
        extra: dict[str, Any] = {self._limit_name: sampling.max_tokens}
        if sampling.top_k != 0:
            extra["top_k"] = sampling.top_k
        if sampling.repetition_penalty != 1:
            extra["repetition_penalty"] = sampling.repetition_penalty
        return {**request, "extra_body": extra}

    async def _send(self, client: AsyncOpenAI, request: dict[str, Any]) -> Completion:
        opens_reasoning = bool(self.tokens and self.tokens.opens_reasoning)
        pause = _FIRST_PAUSE
        # The library repeats failed requests, and this loop repeats unreadable answers.
        for n_left in reversed(range(self._settings.llm_retries + 1)):
            try:
                answer = await client.chat.completions.with_raw_response.create(**request)
                return read_completion(answer.text, opens_reasoning, self._settings.llm_base_url)
            except BrokenAnswerError:
                if not n_left:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        raise AssertionError("the last time returns or raises")

    async def _models(self, client: AsyncOpenAI) -> list[str]:
        """Return the names of the models on the server, if available."""
        from openai import OpenAIError

        try:
            answer = await client.with_options(max_retries=0).models.with_raw_response.list()
        except (OpenAIError, BrokenAnswerError, ForeignRedirectError):
            return []
        return read_models(answer.text)
