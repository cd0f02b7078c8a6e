"""Statistics of the prompts: summaries and failures by kind, token counts, and examples of failures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from recbole_gserec.narrowing import not_none
from recbole_gserec.preprocess.answers import FAILED, STATUSES, USABLE, Summary
from recbole_gserec.preprocess.prompts import Prompt

Row = tuple[str, ...]


class SummaryStatistics(NamedTuple):
    """Statistics of one side's summaries.

    Attributes:
        n_prompts: Number of users with a prompt.
        n_distinct: Number of distinct prompts; equal ones are asked once.
        by_status: Number of users by the status of their summary, a key of :data:`STATUSES`.
        n_shortened: Number of users whose prompt was too long to show all of its records.
        n_asked_again: Number of users whose prompt was asked more than once.
        prompt_tokens: Token counts of the distinct prompts, if known, int64 ``[n]``.
        answer_tokens: Token counts of their last answers, if known.
    """

    n_prompts: int
    n_distinct: int
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
