"""Against a real server of this process, which does wrong what servers do wrong."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import re
import signal
import threading
import time
import zlib
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import hypothesis
import pytest
from hypothesis import strategies as st

from recbole_gserec.errors import InterruptedWorkError, SettingError
from recbole_gserec.preprocess.prompts import Prompt
from recbole_gserec.preprocess.store import Store
from recbole_gserec.preprocess.summaries import make_summaries
from recbole_gserec.preprocess.summarizers.base import Completion
from recbole_gserec.preprocess.summarizers.local_model import ANSWER_SCHEMA
from recbole_gserec.preprocess.summarizers.server import BrokenAnswerError, read_completion
from recbole_gserec.settings.offline import PreprocessSettings

pytest.importorskip("openai")
from recbole_gserec.preprocess.summarizers import openai
from recbole_gserec.preprocess.summarizers import server as bounded_client
from recbole_gserec.preprocess.summarizers.openai import OpenAISummarizer

KEY = "sk-a-very-secret-key"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def owner(self) -> LocalServer:
        return self.server.owner

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.owner.serve(self, body)

    def do_GET(self):
        models = {"object": "list", "data": [{"id": name} for name in self.owner.models]}
        self.reply(200, models) if self.path == "/v1/models" else self.reply(404, {"detail": "Not Found"})

    def reply(self, status: int, body: dict | str, **headers: str) -> None:
        content = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_) -> None:
        pass


class LocalServer:
    """Answers with the prompt's text, after the faults it is given; notes what it is asked."""

    def __init__(self):
        self.faults: deque = deque()
        self.models = ["tiny"]
        self.seconds = lambda text: 0.0
        self.requests: list[dict] = []
        self.keys: set[str] = set()
        self.times: list[float] = []
        self.most_at_once = self._n_open = 0
        self.is_dead = False
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads, self._http.block_on_close, self._http.owner = True, False, self
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def serve(self, handler: Handler, body: dict) -> None:
        with self._lock:
            self.requests.append(body)
            self.keys.add(handler.headers["Authorization"])
            self.times.append(time.monotonic())
            self._n_open += 1
            self.most_at_once = max(self.most_at_once, self._n_open)
            fault = self.faults.popleft() if self.faults else answered
        try:
            time.sleep(self.seconds(text_of(body)))
            if self.is_dead:
                handler.close_connection = True
                return
            # Once the answer is out, the client may send the next request before this one is told off.
            with self._lock:
                self._n_open -= 1
            fault(handler, body)
        except OSError:
            # The client has given up.
            handler.close_connection = True

    def die(self) -> None:
        self.is_dead = True
        self._http.shutdown()
        self._http.server_close()


def text_of(body: dict) -> str:
    return body["messages"][0]["content"]


def chat_completion(text: str | None, finish_reason: str = "stop", **message) -> dict:
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "tiny",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, **message},
                "finish_reason": finish_reason,
            }
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


def answered(handler: Handler, body: dict) -> None:
    handler.reply(200, chat_completion(text_of(body)))


def replies(status: int, body: dict | str, **headers: str):
    return lambda handler, _: handler.reply(status, body, **headers)


def refuses(message: str, status: int = 400, **more):
    return replies(status, {"error": {"message": message, "type": "invalid_request_error", **more}})


def hangs(handler: Handler, body: dict) -> None:
    time.sleep(1)
    handler.close_connection = True


def drops(handler: Handler, body: dict) -> None:
    handler.close_connection = True


@pytest.fixture
def server():
    local = LocalServer()
    yield local
    if not local.is_dead:
        local.die()


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("OPENAI_"):
            monkeypatch.delenv(name)


def settings_for(server: LocalServer, **settings) -> PreprocessSettings:
    fixed = {"summarizer": "openai", "llm": "tiny", "llm_base_url": server.url, "llm_retries": 2, "llm_attempts": 1}
    return PreprocessSettings(**{**fixed, **settings})


def make(server: LocalServer, **settings) -> OpenAISummarizer:
    return OpenAISummarizer(settings_for(server, **settings))


def prompts(n: int, n_records: int = 1) -> list[Prompt]:
    """Prompt 0 reads "- w0a", prompt 1 with two records "- w1a\n- w1b", and so on."""
    return [
        Prompt(index, "recommendation", tuple((f"w{index}{letter}",) for letter in "abcdefgh"[:n_records]), "{history}")
        for index in range(n)
    ]


def texts(completions: list[Completion | None]) -> list[str | None]:
    return [completion and completion.text for completion in completions]


def all_texts(n: int) -> list[str]:
    return [f"- w{index}a" for index in range(n)]


# ---- ordinary work ----------------------------------------------------------------------------------------------


def test_answers_with_what_is_known_of_them(server):
    server.faults += [
        answered,
        replies(200, chat_completion("half an", "length")),
        replies(200, chat_completion(None, reasoning_content="I think that")),
        replies(200, {"choices": [{"message": {"content": "no usage"}, "finish_reason": "stop"}]}),
    ]
    made = make(server, llm_concurrency=1).complete(prompts(4), 1)
    assert made == [
        Completion("- w0a", n_records=1, prompt_tokens=7, answer_tokens=3),
        Completion("half an", is_whole=False, n_records=1, prompt_tokens=7, answer_tokens=3),
        Completion("", n_records=1, prompt_tokens=7, answer_tokens=3),
        Completion("no usage", n_records=1),
    ]


def test_no_prompts_no_requests(server):
    assert make(server).complete([], 1) == []
    assert server.requests == []


def test_answers_keep_their_order_and_requests_their_number(server):
    # Earlier prompts take longer.
    server.seconds = lambda text: 0.2 - 0.01 * int(text[3:-1])
    summarizer = make(server, llm_concurrency=4)
    assert texts(summarizer.complete(prompts(12), 1)) == all_texts(12)
    assert server.most_at_once == 4
    assert summarizer.failure is None


def test_every_sampling_parameter_is_sent(server):
    summarizer = make(server, llm_top_p=0.9, llm_top_k=5, llm_seed=3, llm_max_tokens=48, llm_json_schema=True)
    summarizer.complete(prompts(1), 1)
    summarizer.complete(prompts(1), 2)
    first, second = server.requests
    schema = {"type": "json_schema", "json_schema": {"name": "summary", "schema": ANSWER_SCHEMA}}
    assert first == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "- w0a"}],
        "temperature": 0.0,
        "top_p": 0.9,
        "top_k": 5,
        "repetition_penalty": 1.1,
        "seed": 3,
        "max_tokens": 48,
        "response_format": schema,
    }
    assert second == {**first, "temperature": 0.6, "seed": 4}


def test_neutral_parameters_that_not_all_servers_know_are_left_out(server):
    make(server, llm_repetition_penalty=1.0).complete(prompts(1), 1)
    assert set(server.requests[0]) == {"model", "messages", "temperature", "top_p", "seed", "max_tokens"}


def test_settings_that_do_not_decide_the_answers_are_not_kept(server):
    one = make(server, llm_concurrency=2, llm_timeout=9.0, llm_retries=9)
    other = OpenAISummarizer(settings_for(server, llm_base_url="http://elsewhere:1/v1"))
    assert one.settings == other.settings
    assert one.settings["model"] == "tiny"
    assert make(server, llm_seed=1).settings != one.settings


def test_batches_keep_the_server_busy(server):
    assert make(server, llm_batch_size=64, llm_concurrency=8).batch_size == 64
    assert make(server, llm_batch_size=64, llm_concurrency=100).batch_size == 400


def test_works_inside_a_running_event_loop(server):
    async def cell_of_a_notebook():
        return make(server).complete(prompts(3), 1)

    assert texts(asyncio.run(cell_of_a_notebook())) == all_texts(3)


def test_interrupt_leaves_at_once(server):
    server.seconds = lambda text: 20.0
    # A process that a script started in the background ignores the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            make(server).complete(prompts(8), 1)
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    "settings",
    [
        {"llm_engine_args": {"enforce_eager": True}},
        {"llm_base_url": "localhost:8000/v1"},
        {"llm_base_url": "http://localhost:port/v1"},
    ],
)
def test_wrong_settings_are_named_before_anything_is_sent(server, settings):
    with pytest.raises(SettingError, match=next(iter(settings))):
        make(server, **settings)


# ---- faults that pass -------------------------------------------------------------------------------------------


def test_waits_as_long_as_the_server_says(server):
    server.faults.append(replies(429, {"error": {"message": "slowly"}}, Retry_After="1"))
    assert texts(make(server).complete(prompts(1), 1)) == all_texts(1)
    assert server.times[1] - server.times[0] >= 1


def test_errors_of_the_server_are_got_over(server):
    server.faults += [refuses("oh", 500), replies(503, "<html>busy</html>", Content_Type="text/html"), drops]
    summarizer = make(server, llm_concurrency=2)
    # The second prompt has one fault, the first two, or the other way round.
    assert texts(summarizer.complete(prompts(2), 1)) == all_texts(2)
    assert len(server.requests) == 5
    assert summarizer.failure is None


@pytest.mark.parametrize(
    "body",
    [
        '{"choices": [{"mess',
        "",
        "<html>Welcome</html>",
        "[]",
        "[" * 10**5,
        {"error": {"message": "no choices"}},
        {"choices": []},
        {"choices": None},
        {"choices": [{"message": "text"}]},
        {"choices": ["text"]},
        chat_completion({"not": "a text"}),
    ],
    ids=range(11),
)
def test_bodies_that_are_no_completion_are_got_over(server, body, monkeypatch):
    monkeypatch.setattr(openai, "_FIRST_PAUSE", 0.01)
    server.faults += [replies(200, body), replies(200, body, Content_Type="text/html")]
    summarizer = make(server)
    assert texts(summarizer.complete(prompts(1), 1)) == all_texts(1)
    assert len(server.requests) == 3
    assert summarizer.failure is None


def test_a_request_that_hangs_is_sent_again(server):
    server.faults.append(hangs)
    assert texts(make(server, llm_timeout=0.4).complete(prompts(1), 1)) == all_texts(1)


# ---- faults that stay -------------------------------------------------------------------------------------------


def failure_after(server: LocalServer, fault, **settings) -> str:
    """The line for a fault that meets every request; the summarizer must work again without it."""
    server.faults += [fault] * 20
    summarizer = make(server, **{"llm_retries": 0, **settings})
    assert summarizer.complete(prompts(3), 1) == [None] * 3
    failure = summarizer.failure
    assert failure.startswith(f"The server at {server.url} ")
    assert "\n" not in failure
    server.faults.clear()
    assert texts(summarizer.complete(prompts(3), 1)) == all_texts(3)
    assert summarizer.failure is None
    return failure


@pytest.mark.parametrize(
    ("fault", "settings", "reported"),
    [
        (hangs, {"llm_timeout": 0.2}, "within llm_timeout, 0.2 seconds, 1 times. Raise llm_timeout"),
        (drops, {}, "cannot be reached, 1 times (Server disconnected without sending a response.). Start it again"),
        (refuses("no memory", 500), {}, "fails, 1 times (500: no memory). See its log"),
        (refuses("too fast", 429), {}, "accepts no more requests (429: too fast). Lower llm_concurrency"),
        (refuses("who?", 401), {}, "wants a key (401: who?). Put the right one into the environment variable OPENAI_"),
        (replies(403, "<html>no</html>"), {}, "wants a key (403). Put"),
        (
            replies(200, "<p>Hello</p>"),
            {},
            "does not return a chat completion, asked 1 times (no JSON: '<p>Hello</p>'). Is this llm_base_url",
        ),
        (replies(200, {"error": "busy"}), {}, """no message in '{"error": "busy"}'"""),
        (refuses("no 'tiny'", 404), {}, "has no such page, or no model 'tiny' (404: no 'tiny'). Correct llm_base_url"),
        (refuses("Unknown parameter: 'top_k'."), {"llm_top_k": 5}, "refuses the requests (400: Unknown parameter: 't"),
        (refuses("Unknown parameter: 'top_k'."), {"llm_top_k": 5}, "Set llm_top_k: 0"),
        (refuses("Extra inputs", 422, param="repetition_penalty"), {}, "Set llm_repetition_penalty: 1.0"),
        (refuses("response_format is new to me"), {"llm_json_schema": True}, "Set llm_json_schema: False"),
        (refuses("just no"), {}, "refuses the requests (400: just no). Correct"),
        (refuses("maximum context length is 9 tokens"), {}, "prompts of one record too long (400: maximum context l"),
    ],
)
def test_what_failed_where_and_what_to_do(server, fault, settings, reported):
    assert reported in failure_after(server, fault, **settings)


def test_an_unknown_model_is_reported_with_those_there_are(server):
    server.models = ["large", "small"]
    server.faults.append(refuses("The model `tiny` does not exist.", 404))
    summarizer = make(server)
    assert summarizer.complete(prompts(1), 1) == [None]
    assert summarizer.failure == f"The server at {server.url} has no model 'tiny', but large, small. Correct llm"


def test_no_server_at_the_address(server):
    server.die()
    summarizer = make(server, llm_retries=0)
    assert summarizer.complete(prompts(20), 1) == [None] * 20
    assert "cannot be reached, 1 times (All connection attempts failed). Start it again" in summarizer.failure


def test_nothing_is_begun_after_a_failure(server):
    server.faults += [answered, answered, refuses("no", 401)]
    summarizer = make(server, llm_concurrency=1)
    assert texts(summarizer.complete(prompts(6), 1)) == ["- w0a", "- w1a", None, None, None, None]
    assert len(server.requests) == 3


def test_requests_under_way_still_count(server):
    def refuses_the_second(handler, body):
        if text_of(body) == "- w1a":
            refuses("no", 401)(handler, body)
        else:
            time.sleep(0.3)
            answered(handler, body)

    server.faults += [refuses_the_second] * 2
    summarizer = make(server, llm_concurrency=2)
    assert texts(summarizer.complete(prompts(5), 1)) == ["- w0a", None, None, None, None]
    assert "(401: no)" in summarizer.failure


def test_a_server_that_dies_loses_nothing_that_was_finished(server, tmp_path):
    def dies(handler, _):
        server.is_dead = True
        handler.close_connection = True
        server.die()

    server.faults += [answered] * 10 + [dies]
    requested = {"llm_batch_size": 1, "llm_concurrency": 2, "llm_retries": 1}
    settings = settings_for(server, **requested)
    with Store(tmp_path / "store.sqlite3") as store:
        with pytest.raises(InterruptedWorkError) as caught:
            make_summaries(prompts(24), OpenAISummarizer(settings), settings, store, show_progress=False)
        assert "\n" not in str(caught.value)
        assert f"The server at {server.url} cannot be reached, 2 times (" in str(caught.value)
        n_stored = int(re.search(r"(\d+) of 24 summaries are stored", str(caught.value))[1])
        # Of the two requests under way the other may have been answered or not.
        assert n_stored in (9, 10)

        healthy = LocalServer()
        settings = settings_for(healthy, **requested)
        made = make_summaries(prompts(24), OpenAISummarizer(settings), settings, store, show_progress=False)
        healthy.die()
    assert [summary.text for summary in made.summaries] == all_texts(24)
    assert (made.n_kept, made.n_made) == (n_stored, 24 - n_stored)
    assert len({text_of(request) for request in healthy.requests}) == len(healthy.requests) == 24 - n_stored


# ---- prompts that are refused -----------------------------------------------------------------------------------


def longer_than(n_words: int, message: str):
    """Refuses prompts of more words than that, a word and a dash for each record."""

    def fault(handler, body):
        if len(text_of(body).split()) > 2 * n_words:
            refuses(message)(handler, body)
        else:
            answered(handler, body)

    return fault


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 2048 tokens. However, you requested 512 output tokens and your prompt",
        "'max_tokens' or 'max_completion_tokens' is too large: 512. This model's maximum context length is 2048",
        "the request exceeds the available context size. try increasing the context size",
        "`inputs` tokens + `max_new_tokens` must be <= 4096",
        "Input tokens exceed the configured limit of 272000 tokens.",
    ],
)
def test_the_older_half_of_a_long_history_is_left_out(server, message):
    server.faults += [longer_than(2, message)] * 3
    (made,) = make(server).complete(prompts(1, n_records=7), 1)
    assert made == Completion("- w0f\n- w0g", n_records=2, prompt_tokens=7, answer_tokens=3)
    assert [len(text_of(request).splitlines()) for request in server.requests] == [7, 4, 2]


def test_one_prompt_that_stays_too_long_does_not_stop_the_others(server):
    server.faults += [longer_than(0, "prompt is too long")] * 2
    summarizer = make(server, llm_concurrency=1)
    made = summarizer.complete(prompts(3, n_records=2), 1)
    assert summarizer.failure is None
    assert made[0] == Completion("", is_whole=False)
    assert [completion.n_records for completion in made[1:]] == [2, 2]
    # Asked again, alone, it is still not the server's fault.
    server.faults += [longer_than(0, "prompt is too long")] * 2
    assert summarizer.complete(prompts(1, n_records=2), 2) == [Completion("", is_whole=False)]
    assert summarizer.failure is None


def test_one_prompt_refused_for_its_content_does_not_stop_the_others(server):
    server.faults += [answered, refuses("content policy, seed and temperature", code="content_filter")]
    summarizer = make(server, llm_concurrency=1)
    made = summarizer.complete(prompts(3), 1)
    assert texts(made) == ["- w0a", "", "- w2a"]
    assert summarizer.failure is None


def test_newer_name_of_the_limit_is_taken_up(server):
    server.faults.append(refuses("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."))
    summarizer = make(server, llm_max_tokens=48, llm_concurrency=1)
    assert texts(summarizer.complete(prompts(2), 1)) == all_texts(2)
    assert [request.get("max_completion_tokens") for request in server.requests] == [None, 48, 48]
    assert "max_tokens" not in server.requests[2]


# ---- the tokenizer ----------------------------------------------------------------------------------------------


@pytest.fixture
def word_tokenizer(tmp_path):
    """A tokenizer folder: a token per word and per dash, and a chat template that opens a reasoning block."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<unk>", "-", *(f"w0{letter}" for letter in "abcdefgh")]
    model = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    model.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=model, unk_token="<unk>")
    tokenizer.chat_template = "{{ messages[0]['content'] }}{% if add_generation_prompt %}\n<think>{% endif %}"
    tokenizer.save_pretrained(tmp_path / "words")
    return str(tmp_path / "words")


def test_a_tokenizer_counts_tokens_beforehand(server, word_tokenizer):
    context = {"llm_tokenizer": word_tokenizer, "llm_context_length": 64, "llm_max_tokens": 55}
    summarizer = make(server, **context)
    assert summarizer.shorten("one two  three", 2) == "one two"
    # A quarter of the context is kept for the answer: 48 tokens are left.
    records = tuple((" ".join(["w0a"] * 9),) for _ in range(7))
    (made,) = summarizer.complete([Prompt(0, "recommendation", records, "{history}")], 1)
    assert made.n_records == 4
    assert len(server.requests) == 1
    assert text_of(server.requests[0]).count("- ") == 4


def test_reasoning_that_the_server_takes_out_is_not_looked_for(server, word_tokenizer):
    server.faults += [
        replies(200, chat_completion("good", reasoning="so and so")),
        replies(200, chat_completion("so and so")),
    ]
    made = make(server, llm_tokenizer=word_tokenizer, llm_concurrency=1).complete(prompts(2), 1)
    assert [completion.opens_in_reasoning for completion in made] == [False, True]


# ---- the key ----------------------------------------------------------------------------------------------------


def test_the_key_is_sent_and_told_to_nobody(server, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    for logger in ("", "openai", "httpx", "httpx2", "httpcore", "httpcore2"):
        caplog.set_level(logging.DEBUG, logger=logger)
    server.faults += [
        answered,
        refuses(f"slowly, {KEY}", 429),
        answered,
        refuses(f"Bearer {KEY} is used up", 401),
    ]
    settings = settings_for(server, llm_concurrency=1)
    with Store(tmp_path / "store.sqlite3") as store, pytest.raises(InterruptedWorkError) as caught:
        make_summaries(prompts(6), OpenAISummarizer(settings), settings, store, show_progress=False)
    assert server.keys == {f"Bearer {KEY}"}
    assert "refuses the key (401: Bearer … is used up)" in str(caught.value)
    assert "HTTP Request: POST" in caplog.text
    assert KEY not in caplog.text
    assert KEY not in repr(caught.value)
    assert caught.value.__cause__ is None and caught.value.__context__ is None
    assert KEY.encode() not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert KEY not in repr(vars(OpenAISummarizer(settings)))


def test_a_key_that_cannot_be_sent_is_refused_without_showing_it(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\nX-More: 1")
    with pytest.raises(SettingError, match="OPENAI_API_KEY contains characters") as caught:
        make(server).complete(prompts(1), 1)
    assert KEY not in repr(caught.value)


def test_a_login_in_the_address_is_not_shown(server):
    server.die()
    address = server.url.replace("//", "//me:secret@") + "?api-version=secret"
    summarizer = make(server, llm_base_url=address, llm_retries=0)
    summarizer.complete(prompts(1), 1)
    assert f"The server at {server.url} cannot" in summarizer.failure
    assert "secret" not in summarizer.failure


def test_no_part_of_the_key_is_shown_where_a_body_is_cut(monkeypatch):
    key = "sk-" + "abcdefghij" * 4
    monkeypatch.setenv("OPENAI_API_KEY", key)
    for padding in range(0, 80, 7):
        with pytest.raises(BrokenAnswerError) as error:
            read_completion(json.dumps({"error": {"message": "x" * padding + f" wrong key: {key}"}}), False)
        assert "abcdefgh" not in str(error.value)


def forms_of(secret: str) -> dict[str, str]:
    """A secret as a server may repeat it."""
    return {
        "as it is": secret,
        "after a word": f"Bearer {secret}",
        "in capitals": secret.upper(),
        "in an address": quote(secret, safe=""),
        "in Base64": base64.b64encode(secret.encode()).decode(),
        "in Base64 after one letter": base64.b64encode(f"x{secret}yz".encode()).decode(),
        "in Base64 after two": base64.b64encode(f"me:{secret}".encode()).decode()[2:],
        "in Base64 for addresses": base64.urlsafe_b64encode(secret.encode()).decode(),
        "in hexadecimal": secret.encode().hex(),
    }


@pytest.mark.parametrize("form", forms_of(""))
@pytest.mark.parametrize("secret", [KEY, "sk-proj-??>>/a+b c%1"])
def test_a_key_in_an_answer_is_hidden(secret, form, server, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", secret)
    repeated = forms_of(secret)[form]
    server.faults += [
        replies(200, chat_completion(json.dumps({"summary": f"likes {repeated} films"}))),
        replies(200, chat_completion(f"Likes {repeated} films")),
        replies(200, chat_completion(f"Likes {repeated} fil", "length")),
    ]
    settings = settings_for(server, llm_concurrency=1)
    with Store(tmp_path / "store.sqlite3") as store:
        made = make_summaries(prompts(3), OpenAISummarizer(settings), settings, store, show_progress=False)
    first, second, third = (summary.text for summary in made.summaries)
    assert first.startswith("likes ") and first.endswith(" films") and "…" in first
    assert second.startswith("Likes ") and second.endswith(" films") and third.endswith(" fil")
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir()).lower()
    # Of Base64, the letters at the borders tell nothing of the secret alone.
    inner = repeated.removeprefix("Bearer ")[3:-4].lower()
    assert inner.encode() not in stored and secret.lower().encode() not in stored


def test_a_login_in_an_answer_an_error_and_a_log_is_hidden(server, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    for logger in ("httpx", "httpx2", "openai"):
        caplog.set_level(logging.INFO, logger=logger)
    address = server.url.replace("//", "//me:pass%20word-1@") + "?key=parameter-9"
    basic = base64.b64encode(b"me:pass word-1").decode()
    server.faults += [
        replies(200, chat_completion(f"pass word-1 {basic} pass%20word-1 parameter-9 fine")),
        refuses(f"no pass word-1, {basic}", 401),
    ]
    summarizer = make(server, llm_base_url=address, llm_concurrency=1, llm_retries=0)
    assert texts(summarizer.complete(prompts(1), 1)) == ["… … … … fine"]
    assert summarizer.complete(prompts(1), 1) == [None]
    assert server.keys == {f"Basic {basic}"}
    for said in (summarizer.failure, caplog.text):
        assert said and "word-1" not in said and basic not in said


@pytest.mark.parametrize("key", ["EMPTY", "none", "x", "war"])
def test_a_key_that_is_no_secret_takes_nothing_from_answers(key, server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    server.faults.append(replies(200, chat_completion("empty war films, none of them x")))
    assert texts(make(server).complete(prompts(1), 1)) == ["empty war films, none of them x"]


# ---- odd answers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "count", ["1" + "0" * 30, "9" * 5000, "-1", "7.0", "1e3", '"7"', "null", "true", "[7]", "{}", "2147483648", "NaN"]
)
def test_a_count_that_is_none_is_left_out(count, server, tmp_path):
    body = json.dumps(chat_completion('{"summary": "likes war"}')).replace(
        '"prompt_tokens": 7', f'"prompt_tokens": {count}'
    )
    server.faults.append(replies(200, body))
    settings = settings_for(server, llm_concurrency=1)
    with Store(tmp_path / "store.sqlite3") as store:
        summaries = make_summaries(prompts(2), OpenAISummarizer(settings), settings, store, show_progress=False)[0]
        assert store.summaries([], "") == {}
    assert [summary.text for summary in summaries] == ["likes war", "- w1a"]
    assert [summary.prompt_tokens for summary in summaries] == [None, 7]
    assert [summary.answer_tokens for summary in summaries] == [3, 3]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "content", "usage", "prompt_tokens", "finish_reason", "text"]), inner
        )
    ),
    max_leaves=12,
)
odd_answers = json_values | st.fixed_dictionaries(
    {
        "choices": st.lists(
            st.fixed_dictionaries({"message": st.fixed_dictionaries({"content": json_values})})
            | st.fixed_dictionaries({"message": json_values, "finish_reason": json_values}),
            max_size=2,
        ),
        "usage": json_values | st.fixed_dictionaries({"prompt_tokens": json_values, "completion_tokens": json_values}),
    }
)


@hypothesis.given(odd_answers)
def test_any_body_is_an_answer_or_broken(answer):
    try:
        completion = read_completion(json.dumps(answer), False)
    except BrokenAnswerError:
        return
    assert isinstance(completion.text, str) and isinstance(completion.is_whole, bool)
    for count in (completion.prompt_tokens, completion.answer_tokens):
        assert count is None or (type(count) is int and 0 <= count < 2**31)


def test_content_in_parts_is_one_text(server):
    parts = [{"type": "text", "text": "likes "}, {"type": "image"}, {"type": "text", "text": "war"}, None]
    server.faults.append(replies(200, chat_completion(parts)))
    assert texts(make(server).complete(prompts(1), 1)) == ["likes war"]


@pytest.mark.parametrize("charset", ["hex", "rot13", "utf-16", "nonsense", "utf-7"])
@pytest.mark.parametrize("status", [200, 400])
def test_a_wrong_charset_changes_nothing(charset, status, server):
    odd = replies(status, chat_completion("- w0a"), Content_Type=f"application/json; charset={charset}")
    server.faults += [odd, answered]
    made = make(server, llm_concurrency=1).complete(prompts(2), 1)
    assert texts(made) == (["- w0a", "- w1a"] if status == 200 else ["", "- w1a"])


# ---- servers that take their time, and send elsewhere -----------------------------------------------------------


def trickles(head: bytes):
    """Sends a byte now and then, without an end, after some beginning of an answer."""

    def fault(handler: Handler, body: dict) -> None:
        handler.close_connection = True
        handler.wfile.write(head)
        for _ in range(100):
            time.sleep(0.05)
            handler.wfile.write(b" ")
            handler.wfile.flush()

    return fault


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1",
        b"HTTP/1.1 200 OK\r\nX-Slow:",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 500 Oh\r\nContent-Length: 1000\r\n\r\n",
    ],
)
def test_the_timeout_is_that_of_the_whole_request(head, server):
    server.faults += [trickles(head)] * 3
    summarizer = make(server, llm_timeout=0.3, llm_retries=0)
    start = time.monotonic()
    assert summarizer.complete(prompts(2), 1) == [None] * 2
    assert time.monotonic() - start < 3
    assert "did not answer within llm_timeout, 0.3 seconds, 1 times" in summarizer.failure


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_body_without_an_end_is_not_read_to_it(is_packed, server, monkeypatch):
    monkeypatch.setattr(bounded_client, "MOST_BYTES", 1_000_000)

    def floods(handler, _):
        handler.close_connection = True
        part = b" " * 1_000_000
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"Content-Encoding: gzip\r\n" if is_packed else b"") + b"\r\n")
        packer = zlib.compressobj(wbits=31)
        for _ in range(1000):
            handler.wfile.write(packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH) if is_packed else part)

    server.faults.append(floods)
    summarizer = make(server, llm_retries=0)
    assert summarizer.complete(prompts(1), 1) == [None]
    assert "does not return a chat completion, asked 1 times (more than 1,000,000 bytes)" in summarizer.failure


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_prompt_follows_a_redirect_to_another_server(status, server):
    other = LocalServer()
    server.faults += [
        replies(status, "", Location=f"{other.url.replace('//', '//me:secret@')}/chat/completions?a=b")
    ] * 9
    start = time.monotonic()
    summarizer = make(server)
    assert summarizer.complete(prompts(4), 1) == [None] * 4
    assert time.monotonic() - start < 3, "told at once"
    address = other.url.removesuffix("/v1")
    assert f"redirects requests to {address}; no prompt was sent there" in summarizer.failure
    assert other.requests == [] and len(server.requests) <= 4
    other.die()


@pytest.mark.parametrize(
    "location", ["https://127.0.0.1:1/v1", "//localhost/v1", "ftp://127.0.0.1/", "http://127.0.0.1/v1"]
)
def test_another_scheme_port_or_name_is_another_server(location, server):
    server.faults += [replies(307, "", Location=location)] * 3
    summarizer = make(server, llm_retries=0)
    assert summarizer.complete(prompts(1), 1) == [None]
    assert summarizer.failure.startswith(f"The server at {server.url} ")
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_on_the_same_server_is_followed(status, server):
    server.faults.append(replies(status, "", Location="/v2/chat/completions"))
    server.faults.append(replies(status, "", Location=f"{server.url}/other"))
    summarizer = make(server, llm_concurrency=1)
    assert texts(summarizer.complete(prompts(2), 1)) == all_texts(2)
    assert [text_of(request) for request in server.requests] == ["- w0a"] * 3 + ["- w1a"]
    assert server.keys == {"Bearer none"}


def test_a_circle_of_redirects_ends(server):
    server.faults += [replies(307, "", Location="/v1/chat/completions")] * 50
    summarizer = make(server, llm_retries=0)
    assert summarizer.complete(prompts(1), 1) == [None]
    assert "more than 5 redirects" in summarizer.failure


def test_proxies_of_the_environment_are_used(server, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/v1"))
    summarizer = make(server, llm_base_url="http://language-models.invalid/v1", llm_retries=0)
    assert texts(summarizer.complete(prompts(1), 1)) == all_texts(1)
