"""Summaries of all prompts: those in the store, and the others made and stored batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from tqdm import tqdm

from recbole_gserec.errors import InterruptedWorkError
from recbole_gserec.preprocess.answers import Summary, read_answer
from recbole_gserec.preprocess.prompts import Prompt
from recbole_gserec.preprocess.runners import LocalRunner, Runner
from recbole_gserec.preprocess.settings import PreprocessSettings
from recbole_gserec.preprocess.store import Store, text_hash
from recbole_gserec.preprocess.summarizers import SUMMARIZERS
from recbole_gserec.preprocess.summarizers.base import Summarizer


class SummarizedBatch(NamedTuple):
    """Summaries of a batch of prompts; ``None`` where none came, for the reason in ``failure``."""

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
    """Summarise each prompt, or take its summary from the store.

    Equal prompts are asked once. Prompts are asked in batches whose borders depend on the missing prompts alone: after
    an interruption the remaining batches are those of an uninterrupted run.

    Args:
        prompts: Of both sides.
        summarizer: Whose summaries are wanted.
        settings: Of the offline stage.
        store: Where summaries are, and are put after each batch.
        runner: Who does the work; this process unless given.
        show_progress: Whether to show a bar.

    Raises:
        InterruptedWorkError: If answers stopped coming. What came is in the store.
        DataError: If the store is damaged.
    """
    maker = store.add_maker("summarizer", {"name": summarizer.name, **summarizer.settings})
    inputs = [text_hash(prompt.text) for prompt in prompts]
    distinct = dict(zip(inputs, prompts, strict=True))
    known = store.summaries(list(distinct), maker)
    attempts = {}
    if settings.retry_failed:
        attempts = {key: summary.attempts for key, summary in known.items() if not summary.is_usable}
        known = {key: summary for key, summary in known.items() if summary.is_usable}
    n_kept = len(known)
    missing = {key: attempts.get(key, 0) for key in distinct if key not in known}
    if missing:
        _make_missing(missing, distinct, known, summarizer, settings, store, maker, runner, show_progress)
    return MadeSummaries([known[key] for key in inputs], n_kept, len(missing))


def _make_missing(missing, prompts, known, summarizer, settings, store, maker, runner, show_progress) -> None:
    keys, batches = [], []
    # Those asked in earlier runs go on counting: with the same seeds a model would give the same answers.
    for n_before in sorted(set(missing.values())):
        group, size = [key for key in missing if missing[key] == n_before], summarizer.batch_size
        keys += [group[start : start + size] for start in range(0, len(group), size)]
        batches += [(n_before, [prompts[key] for key in batch]) for batch in keys[len(batches) :]]
    # A worker elsewhere makes a summarizer of its own; here the one there is will do.
    make_worker = partial(SummaryWorker, settings, None if runner else summarizer)
    runner = runner or LocalRunner()
    with tqdm(
        total=len(known) + len(missing),
        initial=len(known),
        desc=f"Summaries ({summarizer.name})",
        unit="prompt",
        disable=not show_progress,
    ) as bar:
        for place, batch in runner.run(make_worker, batches):
            made = {key: summary for key, summary in zip(keys[place], batch.summaries, strict=True) if summary}
            store.add_summaries(made, maker)
            known.update(made)
            bar.update(len(made))
            if batch.failure:
                raise InterruptedWorkError(
                    f"{batch.failure}. {len(known):,} of {bar.total:,} summaries are stored in {store.path}; "
                    "the same command goes on from there"
                )


class SummaryWorker:
    """Asks and reads one batch after the other: prompts, and the times they were asked in earlier runs."""

    def __init__(self, settings: PreprocessSettings, summarizer: Summarizer | None = None):
        self.summarizer = summarizer or SUMMARIZERS[settings.summarizer](settings)
        self.n_attempts, self.use_plain = settings.llm_attempts, settings.plain_answers == "use"

    def __call__(self, batch: tuple[int, Sequence[Prompt]]) -> SummarizedBatch:
        n_before, prompts = batch
        if not self.summarizer.speaks_json:
            completions = self.summarizer.complete(prompts, 1)
            return SummarizedBatch([Summary("text", completion.text) for completion in completions], None)
        summaries: list[Summary | None] = [None] * len(prompts)
        failure, open_places = None, list(range(len(prompts)))
        last = n_before + self.n_attempts
        for attempt in range(n_before + 1, last + 1):
            completions = self.summarizer.complete([prompts[place] for place in open_places], attempt)
            for place, completion in zip(open_places, completions, strict=True):
                if completion is not None:
                    summary = read_answer(completion, attempts=attempt, use_plain=self.use_plain)
                    # An answer that cannot be used is the last word only after all attempts.
                    if summary.is_usable or attempt == last:
                        summaries[place] = summary
            failure = self.summarizer.failure
            open_places = [place for place in open_places if summaries[place] is None]
            if failure or not open_places:
                break
        return SummarizedBatch(summaries, failure)
