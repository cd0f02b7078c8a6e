"""Summaries of all prompts: stored ones are reused, and others are made and stored batch by batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from tqdm import tqdm

from recbole_gserec.errors import InterruptedWorkError, SettingError
from recbole_gserec.narrowing import not_none
from recbole_gserec.preprocess.answers import Summary, read_answer
from recbole_gserec.preprocess.prompts import Prompt
from recbole_gserec.preprocess.runners import LocalRunner, Runner
from recbole_gserec.preprocess.settings import PreprocessSettings, with_absolute_folders
from recbole_gserec.preprocess.store import Store, text_hash
from recbole_gserec.preprocess.summarizers import SUMMARIZERS
from recbole_gserec.preprocess.summarizers.base import Summarizer


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
    with tqdm(
        total=len(known) + len(missing),
        initial=len(known),
        desc=f"Summaries ({summarizer.name})",
        unit="prompt",
        disable=not show_progress,
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
