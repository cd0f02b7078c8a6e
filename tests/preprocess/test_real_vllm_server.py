"""A real language model behind vLLM's own server, started and ended as a user would."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from recbole_gserec.preprocess.prompts import Prompt, read_template, template_path
from recbole_gserec.settings.offline import PreprocessSettings

pytestmark = pytest.mark.slow
pytest.importorskip("vllm")
pytest.importorskip("openai")

SERVER = "vllm.entrypoints.openai.api_server"
ARGUMENTS = """
    --served-model-name smollm2 --host 127.0.0.1 --dtype bfloat16 --max-model-len 1024 --enforce-eager
    --gpu-memory-utilization 0.3 --generation-config vllm
""".split()
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "HF_HUB_OFFLINE": "1",
}
TITLES = ("Alien (1979); Horror Sci-Fi", "Toy Story (1995); Animation Children's", "Heat (1995); Crime Thriller")
SECONDS_TO_START = 240


@pytest.fixture(scope="module")
def server(smollm2, tmp_path_factory):
    """Address of the server, and its process group."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with open(log, "w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", SERVER, "--model", str(smollm2), "--port", str(port), *ARGUMENTS],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **ENVIRONMENT},
            start_new_session=True,
        )
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1", process
    finally:
        end(process)


def wait_until_healthy(url: str, process: subprocess.Popen, log) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"the server did not start:\n{log.read_text()[-3000:]}")


def end(process: subprocess.Popen) -> None:
    """End the server, its engine's process included."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        if not is_alive(process.pid):
            break
        os.killpg(process.pid, sign)
        deadline = time.monotonic() + 20
        while is_alive(process.pid) and time.monotonic() < deadline:
            process.poll()
            time.sleep(0.1)


def is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def prompts(n: int, n_records: int = 6) -> list[Prompt]:
    template = read_template(template_path("recommendation", "en"))
    return [
        Prompt(user, "recommendation", tuple((TITLES[(user + index) % 3],) for index in range(n_records)), template)
        for user in range(n)
    ]


def summarizer_for(url: str, **requested):
    from recbole_gserec.preprocess.summarizers.openai import OpenAISummarizer

    fixed = {"summarizer": "openai", "llm": "smollm2", "llm_base_url": url, "llm_max_tokens": 48, "llm_concurrency": 3}
    return OpenAISummarizer(PreprocessSettings(**{**fixed, **requested}))


def test_summaries_of_a_real_model(server):
    summarizer = summarizer_for(server[0])
    completions = summarizer.complete(prompts(6), 1)
    assert summarizer.failure is None
    for completion in completions:
        assert completion.text.strip()
        assert completion.n_records == 6
        assert completion.prompt_tokens > 50
        assert 1 <= completion.answer_tokens <= 48
        assert completion.is_whole == (completion.answer_tokens < 48)


def test_the_schema_is_kept_to(server):
    (completion,) = summarizer_for(server[0], llm_json_schema=True).complete(prompts(1), 1)
    assert completion.text.lstrip().startswith("{")
    assert '"summary"' in completion.text


def test_long_histories_are_shortened(server, smollm2):
    (by_server,) = summarizer_for(server[0]).complete(prompts(1, n_records=300), 1)
    assert by_server.text.strip()
    assert 0 < by_server.n_records < 300
    counting = summarizer_for(server[0], llm_tokenizer=str(smollm2), llm_context_length=1024)
    (counted,) = counting.complete(prompts(1, n_records=300), 1)
    # Halving leaves out more than is needed.
    assert by_server.n_records <= counted.n_records < 300
    assert 800 < counted.prompt_tokens <= 1024 - 48


def test_unknown_model(server):
    summarizer = summarizer_for(server[0], llm="other")
    assert summarizer.complete(prompts(1), 1) == [None]
    assert "has no model 'other', but smollm2" in summarizer.failure


def test_server_that_ends(server):
    url, process = server
    end(process)
    assert not is_alive(process.pid)
    summarizer = summarizer_for(url, llm_retries=0)
    assert summarizer.complete(prompts(2), 1) == [None, None]
    assert "cannot be reached" in summarizer.failure
