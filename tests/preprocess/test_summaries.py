import multiprocessing
import os
import signal

import pytest

from recbole_gserec.errors import DataError, InterruptedWorkError, SettingError
from recbole_gserec.preprocess.answers import Summary
from recbole_gserec.preprocess.prompts import Prompt
from recbole_gserec.preprocess.runners import LocalRunner
from recbole_gserec.preprocess.store import Store
from recbole_gserec.preprocess.summaries import SummaryWorker, make_summaries
from recbole_gserec.preprocess.summarizers.base import Completion, TemplateSummarizer
from recbole_gserec.preprocess.summarizers.known_summarizers import SUMMARIZERS
from recbole_gserec.settings.offline import PreprocessSettings

SETTINGS = PreprocessSettings(llm_attempts=3)
CUT_OFF = Completion("cut o", is_whole=False)
forked = multiprocessing.get_context("fork")


def prompt(word, side="search"):
    return Prompt(0, side, ((word,),), "{history}", "en")


def prompts(text):
    return [prompt(word) for word in text.split()]


class Echo:
    """Answers with the prompt's word in JSON, or with what ``answers`` has for it: by attempt, the last one for good.

    Attributes:
        asked: The words of each batch that was asked for; ``attempts`` the attempt that each was.
        failure_at: Words that there is no answer for.
    """

    name = "echo"
    speaks_json = True
    failure = None

    def __init__(self, batch_size=2, answers=(), failure_at=(), **settings):
        self.batch_size, self.answers, self.failure_at = batch_size, dict(answers), set(failure_at)
        self.settings = settings
        self.asked, self.attempts = [], []

    @property
    def words(self):
        return [word for batch in self.asked for word in batch]

    def complete(self, prompts, attempt):
        words = [prompt.records[0][0] for prompt in prompts]
        self.asked.append(words)
        self.attempts.append(attempt)
        completions = [self.complete_one(word, attempt) for word in words]
        self.failure = "the server is gone" if None in completions else None
        return completions

    def complete_one(self, word, attempt):
        if word in self.failure_at:
            return None
        answers = self.answers.get(word, [Completion(f'{{"summary": "{word}!"}}', answer_tokens=attempt)])
        return answers[min(attempt, len(answers)) - 1]


def make(path, wanted, summarizer, settings=SETTINGS, **options):
    with Store(path) as store:
        return make_summaries(prompts(wanted), summarizer, settings, store, show_progress=False, **options)


def texts(made):
    return [summary.text for summary in made.summaries]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "toy.sqlite3"


def test_summaries_come_in_the_order_of_the_prompts(path):
    assert texts(make(path, "e d c b a", Echo())) == ["e!", "d!", "c!", "b!", "a!"]
    assert texts(make(path, "a f c", Echo())) == ["a!", "f!", "c!"]


def test_only_missing_prompts_are_asked(path):
    first, second, third = Echo(), Echo(), Echo()
    assert make(path, "a b c", first)[1:] == (0, 3)
    assert make(path, "d a b e c", second)[1:] == (3, 2)
    assert make(path, "e a", third)[1:] == (2, 0)
    assert (first.asked, second.asked, third.asked) == ([["a", "b"], ["c"]], [["d", "e"]], [])


def test_equal_prompts_are_asked_once(path):
    summarizer = Echo()
    made = make(path, "b a b b c a", summarizer)
    assert summarizer.asked == [["b", "a"], ["c"]]
    assert texts(made) == ["b!", "a!", "b!", "b!", "c!", "a!"]
    assert made[1:] == (0, 3)
    assert make(path, "a a c", Echo())[1:] == (2, 0)


def test_both_sides_have_prompts_of_their_own(path):
    summarizer = Echo(batch_size=9)
    with Store(path) as store:
        both = [prompt("a", "search"), prompt("a", "recommendation")]
        make_summaries(both, summarizer, SETTINGS, store, show_progress=False)
    assert summarizer.asked == [["a", "a"]]


@pytest.mark.parametrize(
    "change",
    [
        {"template": "Another wording. {history}"},
        {"records": (("a",), ("b",))},
        {"side": "recommendation"},
        {"language": "zh"},
    ],
)
def test_only_a_changed_prompt_is_asked_again(path, change):
    make(path, "a b c", Echo())
    summarizer = Echo()
    with Store(path) as store:
        changed = [prompt("a"), prompt("b")._replace(**change), prompt("c")]
        assert make_summaries(changed, summarizer, SETTINGS, store, show_progress=False)[1:] == (2, 1)
    assert len(summarizer.words) == 1


def test_who_the_user_is_does_not_matter(path):
    make(path, "a b c", Echo())
    with Store(path) as store:
        moved = [prompt("c")._replace(user=7)]
        assert make_summaries(moved, Echo(), SETTINGS, store, show_progress=False)[1:] == (1, 0)


def test_other_settings_of_the_summarizer_make_all_anew_and_leave_the_old(path):
    make(path, "a b", Echo(seed=1))
    other = Echo(seed=2, answers={"a": [Completion("another")]})
    assert texts(make(path, "a b", other)) == ["another", "b!"]
    assert other.asked == [["a", "b"]]
    again = Echo(seed=1)
    assert texts(make(path, "a b", again)) == ["a!", "b!"]
    assert again.asked == []


def test_another_summarizer_of_the_same_settings_makes_all_anew(path):
    make(path, "a", Echo(seed=1))
    other = Echo(seed=1)
    other.name = "another"
    assert make(path, "a", other)[1:] == (0, 1)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_batches_cover_the_missing_prompts_in_order(path, size):
    summarizer = Echo(batch_size=size)
    make(path, "a b c d e f g", summarizer)
    assert summarizer.words == list("abcdefg")
    assert {len(batch) for batch in summarizer.asked[:-1]} <= {size}
    assert len(summarizer.asked) == -(-7 // size)


# ---- interruptions --------------------------------------------------------------------------------------------------


class Interrupted(Echo):
    def complete_one(self, word, attempt):
        if word == "f":
            raise KeyboardInterrupt
        return super().complete_one(word, attempt)


class Killed(Echo):
    def complete_one(self, word, attempt):
        if word == "f":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().complete_one(word, attempt)


def interrupt(path):
    with pytest.raises(KeyboardInterrupt):
        make(path, "a b c d e f g h i", Interrupted())


def kill(path):
    child = forked.Process(target=make, args=(path, "a b c d e f g h i", Killed()))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("stop", [interrupt, kill])
def test_after_an_interruption_the_batches_that_remain_are_those_of_an_uninterrupted_run(tmp_path, path, stop):
    whole, rest = Echo(), Echo()
    expected = make(tmp_path / "whole.sqlite3", "a b c d e f g h i", whole)
    stop(path)
    made = make(path, "a b c d e f g h i", rest)
    assert whole.asked == [["a", "b"], ["c", "d"], ["e", "f"], ["g", "h"], ["i"]]
    assert rest.asked == whole.asked[2:]
    assert made.summaries == expected.summaries
    assert made[1:] == (4, 5)


@pytest.mark.parametrize("show_progress", [True, False])
def test_the_bar_starts_from_what_is_kept(path, capsys, show_progress):
    make(path, "a b c", Echo())
    with Store(path) as store:
        make_summaries(prompts("a b c d e f g"), Echo(), SETTINGS, store, show_progress=show_progress)
    shown = capsys.readouterr().err
    if show_progress:
        assert "Summaries (echo):  43%" in shown
        assert "3/7" in shown
        assert "7/7" in shown
    else:
        assert shown == ""


# ---- failures -------------------------------------------------------------------------------------------------------


def test_what_cannot_be_used_is_asked_again_in_the_same_run(path):
    better = [CUT_OFF, Completion('{"summary": "better"}')]
    summarizer = Echo(answers={"a": better, "b": [CUT_OFF, CUT_OFF, *better[1:]], "c": [CUT_OFF]}, batch_size=4)
    made = make(path, "a b c d", summarizer)
    assert summarizer.asked == [list("abcd"), list("abc"), list("bc")]
    assert texts(made) == ["better", "better", "cut o", "d!"]
    assert [summary.status for summary in made.summaries] == ["json", "json", "truncated", "json"]
    assert [summary.attempts for summary in made.summaries] == [2, 3, 3, 1]
    assert made[1:] == (0, 4)


def test_attempts_are_counted_from_one(path):
    made = make(path, "a", Echo(answers={"a": [CUT_OFF, CUT_OFF, Completion('{"summary": "c"}', answer_tokens=9)]}))
    assert made.summaries == [Summary("json", "c", 3, answer_tokens=9)]
    single = make(path, "b", Echo(answers={"b": [CUT_OFF]}), PreprocessSettings(llm_attempts=1))
    assert single.summaries == [Summary("truncated", "cut o", 1)]


def test_a_failure_is_not_asked_again_in_the_next_run(path):
    make(path, "a b", Echo(answers={"a": [CUT_OFF]}))
    summarizer = Echo()
    made = make(path, "a b c", summarizer)
    assert summarizer.words == ["c"]
    assert texts(made) == ["cut o", "b!", "c!"]
    assert made[1:] == (2, 1)


def test_a_failure_is_asked_again_if_wanted(path):
    retry = PreprocessSettings(llm_attempts=3, retry_failed=True)
    make(path, "a b", Echo(answers={"a": [CUT_OFF]}))
    failing, working = Echo(answers={"a": [CUT_OFF]}), Echo()
    assert make(path, "a b", failing, retry).summaries[0].status == "truncated"
    assert failing.words == ["a"] * 3
    assert failing.attempts == [4, 5, 6], "with the seeds of before it would fail again"
    made = make(path, "a b", working, retry)
    assert working.words == ["a"]
    assert texts(made) == ["a!", "b!"]
    assert made[1:] == (1, 1)
    assert texts(make(path, "a b", Echo())) == ["a!", "b!"]


@pytest.mark.parametrize(("plain_answers", "status"), [("use", "text"), ("fail", "not_json")])
def test_plain_answers(path, plain_answers, status):
    settings = PreprocessSettings(llm_attempts=2, plain_answers=plain_answers)
    made = make(path, "a", Echo(answers={"a": [Completion("Likes war.")]}), settings)
    assert made.summaries == [Summary(status, "Likes war.", 1 if status == "text" else 2)]


def test_when_answers_stop_coming_what_came_is_stored(path):
    summarizer = Echo(failure_at="d", batch_size=2)
    with pytest.raises(InterruptedWorkError) as caught:
        make(path, "a b c d e f", summarizer)
    assert str(caught.value).startswith(f"the server is gone. 3 of 6 summaries are stored in {path}; ")
    assert summarizer.asked == [["a", "b"], ["c", "d"]]
    rest = Echo()
    assert texts(make(path, "a b c d e f", rest)) == ["a!", "b!", "c!", "d!", "e!", "f!"]
    assert rest.words == ["d", "e", "f"]


class GoneLater(Echo):
    """Has no answer for ``failure_at`` from the second attempt on."""

    def complete_one(self, word, attempt):
        return CUT_OFF if attempt == 1 and word in self.failure_at else super().complete_one(word, attempt)


def test_a_failed_answer_is_not_stored_where_the_next_attempt_had_none(path):
    with pytest.raises(InterruptedWorkError, match="1 of 2 summaries"):
        make(path, "a b", GoneLater(failure_at="a"))
    rest = Echo()
    assert texts(make(path, "a b", rest)) == ["a!", "b!"]
    assert rest.words == ["a"]


@pytest.mark.parametrize("summarizer", [Echo, GoneLater])
def test_a_failed_answer_is_not_stored_while_attempts_are_left(path, summarizer):
    with pytest.raises(InterruptedWorkError, match="1 of 3 summaries"):
        make(path, "a b c", summarizer(answers={"a": [CUT_OFF]}, failure_at="b", batch_size=3))
    rest = Echo(answers={"a": [CUT_OFF, Completion('{"summary": "better"}')]})
    assert texts(make(path, "a b c", rest)) == ["better", "b!", "c!"]


def test_a_damaged_store_is_named(path):
    make(path, "a", Echo())
    path.write_text("something else")
    with pytest.raises(DataError, match=r"toy\.sqlite3: damaged"):
        make(path, "a", Echo())


# ---- who does the work ----------------------------------------------------------------------------------------------


class Backwards:
    """A runner whose batches are finished in another order."""

    def run(self, make_worker, batches):
        yield from reversed([*LocalRunner().run(make_worker, batches)])


def test_batches_may_be_finished_in_any_order(path, monkeypatch):
    elsewhere = Echo()
    monkeypatch.setitem(SUMMARIZERS, "template", lambda settings: elsewhere)
    here = Echo()
    made = make(path, "a b c d e", here, runner=Backwards())
    assert texts(made) == ["a!", "b!", "c!", "d!", "e!"]
    # Workers of a runner that was given have a summarizer of their own.
    assert (here.words, elsewhere.words) == ([], list("abcde"))
    assert texts(make(path, "e a", Echo())) == ["e!", "a!"]


def test_the_template_is_asked_once_and_taken_at_its_word(path):
    summarizer = TemplateSummarizer()
    made = make(path, "war ... drama", summarizer)
    assert made.summaries == [Summary("text", "Also: war."), Summary("text", ""), Summary("text", "Also: drama.")]
    # Its rules can change with the version, and making is faster than finding.
    assert make(path, "war ... drama", summarizer)[1:] == (0, 3)


def test_more_attempts_ask_again_those_alone_that_failed(path):
    make(path, "a b", Echo(answers={"a": [CUT_OFF]}), PreprocessSettings(llm_attempts=2))
    more = Echo()
    made = make(path, "a b", more, PreprocessSettings(llm_attempts=4))
    assert (more.words, more.attempts) == (["a"], [3])
    assert texts(made) == ["a!", "b!"]


def test_plain_answers_are_judged_when_they_are_taken_from_the_store(path):
    plain = {"a": [Completion("likes war")]}
    assert make(path, "a", Echo(answers=plain)).summaries[0].status == "text"
    strict = PreprocessSettings(llm_attempts=1, plain_answers="fail")
    nobody = Echo()
    assert make(path, "a", nobody, strict).summaries[0].status == "not_json"
    assert nobody.words == []
    assert make(path, "a", Echo()).summaries[0].text == "likes war"


def test_another_model_where_the_worker_is_is_refused(monkeypatch):
    monkeypatch.setitem(SUMMARIZERS, "template", lambda settings: Echo(seed=1))
    SummaryWorker(PreprocessSettings(), expected={"seed": 1})
    with pytest.raises(SettingError, match="is a different model on the worker's machine"):
        SummaryWorker(PreprocessSettings(), expected={"seed": 2})
