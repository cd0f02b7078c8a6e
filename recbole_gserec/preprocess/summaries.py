"""Summaries of all prompts: stored ones are reused, others are made and stored batch by batch and then counted."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from recbole_gserec.errors import InterruptedWorkError, SettingError, not_none
from recbole_gserec.preprocess.answers import FAILED, STATUSES, USABLE, Summary, read_answer
from recbole_gserec.preprocess.progress import progress_bar
from recbole_gserec.preprocess.prompts import Prompt
from recbole_gserec.preprocess.runners import LocalRunner, Runner
from recbole_gserec.preprocess.store import Store, text_hash
from recbole_gserec.preprocess.summarizers import SUMMARIZERS, Summarizer
from recbole_gserec.settings import PreprocessSettings, with_absolute_folders


class SummarizedBatch(NamedTuple):
    """Summaries of a batch of prompts; ``None`` for a missing one, with the reason in ``failure``."""

    summaries: list[Summary | None]
    failure: str | None


class MadeSummaries(NamedTuple):
    """Summaries of prompts, in their order.

    Attributes:
        summaries: One per prompt.
        n_kept: Distinct prompts whose summary was in the store.
        n_made: Distinct prompts that were asked now.
    """

    summaries: list[Summary]
    n_kept: int
    n_made: int


def make_summaries(
    prompts: Sequence[Prompt],
    summarizer: Summarizer,
    settings: PreprocessSettings,
    store: Store,
    *,
    runner: Runner | None = None,
    show_progress: bool = True,
) -> MadeSummaries:
    """Summarise each prompt, or read its summary from the store.

    Equal prompts are asked once. The division into batches depends only on the missing prompts, so an interrupted run
    continues with the same batches as an uninterrupted one.

    Args:
        prompts: Prompts of both sides.
        summarizer: The summarizer.
        settings: Settings of the offline stage.
        store: The store, which is updated after each batch.
        runner: Runs the work; this process by default.
        show_progress: Whether to show a progress bar.

    Raises:
        InterruptedWorkError: If answers stop arriving. Received answers are in the store.
        DataError: If the store is damaged.
    """
    inputs = [text_hash(prompt.text) for prompt in prompts]
    distinct = dict(zip(inputs, prompts, strict=True))
    if not summarizer.speaks_json:
        # Template summaries are faster to make than to find, and their rules may change between versions.
        completions = summarizer.complete(list(distinct.values()), 1)
        made = {key: Summary("text", not_none(answer).text) for key, answer in zip(distinct, completions, strict=True)}
        return MadeSummaries([made[key] for key in inputs], 0, len(made))
    maker = store.add_maker("summarizer", {"name": summarizer.name, **summarizer.settings})
    use_plain = settings.plain_answers == "use"
    known: dict[str, Summary] = {}
    missing = {key: (1, settings.llm_attempts) for key in distinct}
    for key, summary in store.summaries(list(distinct), maker).items():
        summary = summary.require_json_unless(use_plain)
        # Continue to count attempts: with the same seeds a model would give the same answers.
        last = settings.llm_attempts + (summary.attempts if settings.retry_failed else 0)
        if summary.is_usable or summary.attempts >= last:
            known[key] = summary
            del missing[key]
        else:
            missing[key] = (summary.attempts + 1, last)
    n_kept = len(known)
    if missing:
        _make_missing(missing, distinct, known, summarizer, settings, store, maker, runner, show_progress)
    return MadeSummaries([known[key].require_json_unless(use_plain) for key in inputs], n_kept, len(missing))


def _make_missing(
    missing: Mapping[str, tuple[int, int]],
    prompts: Mapping[str, Prompt],
    known: dict[str, Summary],
    summarizer: Summarizer,
    settings: PreprocessSettings,
    store: Store,
    maker: str,
    runner: Runner | None,
    show_progress: bool,
) -> None:
    keys: list[list[str]] = []
    batches: list[tuple[tuple[int, int], Sequence[Prompt]]] = []
    for attempts in sorted(set(missing.values())):
        group, size = [key for key in missing if missing[key] == attempts], summarizer.batch_size
        keys += [group[start : start + size] for start in range(0, len(group), size)]
        batches += [(attempts, [prompts[key] for key in batch]) for batch in keys[len(batches) :]]
    # A remote worker creates its own summarizer; here the existing one is used.
    make_worker = partial(SummaryWorker, settings, summarizer)
    if runner:
        make_worker = partial(SummaryWorker, with_absolute_folders(settings), expected=summarizer.settings)
    runner = runner or LocalRunner()
    with progress_bar(
        show_progress,
        total=len(known) + len(missing),
        initial=len(known),
        desc=f"Summaries ({summarizer.name})",
        unit="prompt",
    ) as bar:
        for index, batch in runner.run(make_worker, batches):
            made = {key: summary for key, summary in zip(keys[index], batch.summaries, strict=True) if summary}
            store.add_summaries(made, maker)
            known.update(made)
            bar.update(len(made))
            if batch.failure:
                raise InterruptedWorkError(
                    f"{batch.failure}. {len(known):,} of {bar.total:,} summaries are stored in {store.path}; "
                    "the same command resumes it"
                )


class SummaryWorker:
    """Asks one batch after the other: prompts, with the numbers of their first and last attempt.

    Args:
        settings: Settings of the offline stage.
        summarizer: The summarizer; None creates one.
        expected: Required settings of the created summarizer.

    Raises:
        SettingError: If they differ, because this machine has another model with the same name.
    """

    def __init__(
        self,
        settings: PreprocessSettings,
        summarizer: Summarizer | None = None,
        expected: Mapping[str, Any] | None = None,
    ):
        self.summarizer = summarizer or SUMMARIZERS[settings.summarizer](settings)
        if expected is not None and self.summarizer.settings != expected:
            raise SettingError(f"llm: '{settings.llm}' is a different model on the worker's machine")
        self.use_plain = settings.plain_answers == "use"

    def __call__(self, batch: tuple[tuple[int, int], Sequence[Prompt]]) -> SummarizedBatch:
        (first, last), prompts = batch
        summaries: list[Summary | None] = [None] * len(prompts)
        failure, open_indices = None, list(range(len(prompts)))
        for attempt in range(first, last + 1):
            completions = self.summarizer.complete([prompts[index] for index in open_indices], attempt)
            for index, completion in zip(open_indices, completions, strict=True):
                if completion is not None:
                    summary = read_answer(completion, attempt)
                    # An unusable answer is final only after all attempts.
                    if summary.require_json_unless(self.use_plain).is_usable or attempt == last:
                        summaries[index] = summary
            failure = self.summarizer.failure
            open_indices = [index for index in open_indices if summaries[index] is None]
            if failure or not open_indices:
                break
        return SummarizedBatch(summaries, failure)


Row = tuple[str, ...]


class SummaryStatistics(NamedTuple):
    """Statistics of one side's summaries.

    Attributes:
        n_prompts: Number of users with a prompt.
        n_distinct: Number of distinct prompts; equal ones are asked once.
        n_summaries: Number of distinct texts among the usable summaries of the distinct prompts.
        by_status: Number of users by the status of their summary, a key of :data:`STATUSES`.
        n_shortened: Number of users whose prompt was too long to show all of its records.
        n_asked_again: Number of users whose prompt was asked more than once.
        prompt_tokens: Token counts of the distinct prompts, if known, int64 ``[n]``.
        answer_tokens: Token counts of their last answers, if known.
    """

    n_prompts: int
    n_distinct: int
    n_summaries: int
    by_status: Mapping[str, int]
    n_shortened: int
    n_asked_again: int
    prompt_tokens: np.ndarray
    answer_tokens: np.ndarray


def summary_statistics(prompts: Mapping[int, Prompt], summaries: Sequence[Summary | None]) -> SummaryStatistics:
    """Count one side's summaries.

    Args:
        prompts: The prompt of each user who has one, by index of the user.
        summaries: Summary of each user; ``None`` for a user without a prompt.
    """
    by_user = [(prompt, not_none(summaries[user])) for user, prompt in prompts.items()]
    # The other parts of a prompt are the same for all users of a side.
    distinct = {prompt.records: summary for prompt, summary in by_user}
    return SummaryStatistics(
        n_prompts=len(by_user),
        n_distinct=len(distinct),
        n_summaries=len({summary.text for summary in distinct.values() if summary.is_usable}),
        by_status=Counter(summary.status for _, summary in by_user),
        n_shortened=sum(
            summary.n_records is not None and summary.n_records < len(prompt.records) for prompt, summary in by_user
        ),
        n_asked_again=sum(summary.attempts > 1 for _, summary in by_user),
        prompt_tokens=_known(summary.prompt_tokens for summary in distinct.values()),
        answer_tokens=_known(summary.answer_tokens for summary in distinct.values()),
    )


def _known(tokens: Iterable[int | None]) -> np.ndarray:
    return np.array([count for count in tokens if count is not None], dtype=np.int64)


def summary_rows(statistics: Mapping[str, SummaryStatistics], *, model_was_asked: bool) -> list[Row]:
    """Make a table with a column per side.

    Args:
        statistics: Statistics by side.
        model_was_asked: Whether a language model made the summaries; otherwise nothing can fail.
    """
    rows = [
        ("users", *statistics),
        ("with a prompt", *(f"{side.n_prompts:,}" for side in statistics.values())),
        ("different prompts", *(f"{side.n_distinct:,}" for side in statistics.values())),
    ]
    if not model_was_asked:
        return rows
    for status in (*USABLE, *FAILED):
        label = STATUSES[status] if status in USABLE else f"failed: {STATUSES[status]}"
        rows.append((label, *(_count(side.by_status.get(status, 0), side.n_prompts) for side in statistics.values())))
    rows.append(("different usable summaries", *(f"{side.n_summaries:,}" for side in statistics.values())))
    rows.append(
        ("prompt shortened", *(_count(side.n_shortened, side.n_prompts) for side in statistics.values())),
    )
    rows.append(
        ("asked more than once", *(_count(side.n_asked_again, side.n_prompts) for side in statistics.values())),
    )
    return rows


def _count(count: int, n_prompts: int) -> str:
    return f"{count:,} ({count / n_prompts:.1%})" if count else "0"


def token_rows(statistics: Mapping[str, SummaryStatistics]) -> list[Row]:
    """Make a table of the known token counts; empty if none are known."""
    rows = []
    for side, counts in statistics.items():
        for what, tokens in (("prompts", counts.prompt_tokens), ("answers", counts.answer_tokens)):
            if len(tokens):
                values = (tokens.mean(), *np.percentile(tokens, [50, 95]))
                numbers = [f"{value:,.1f}" for value in values] + [
                    f"{value:,}" for value in (tokens.max(), tokens.sum())
                ]
                rows.append((f"{side} {what}", f"{len(tokens):,}", *numbers))
    return [("tokens of", "number", "mean", "median", "95th percentile", "largest", "total"), *rows] if rows else []


def failure_examples(summaries: Mapping[str, Sequence[Summary | None]], n: int) -> list[tuple[str, int]]:
    """Choose examples of failures, of as many kinds as possible.

    Args:
        summaries: By side, the summary of each user.
        n: Number of examples; all failures if there are fewer.

    Returns:
        Side and user index of each example.
    """
    chosen: dict[str, list[tuple[str, int]]] = {status: [] for status in FAILED}
    for side, of_users in summaries.items():
        for user, summary in enumerate(of_users):
            if summary and not summary.is_usable and len(chosen[summary.status]) < n:
                chosen[summary.status].append((side, user))
    # The first of each kind, then the second of each, and so on.
    rounds = [index for nth in range(n) for indices in chosen.values() for index in indices[nth : nth + 1]]
    return rounds[:n]
