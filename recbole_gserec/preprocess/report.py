"""A page that shows the codes: results of the prompts, use of the codebooks, and whether similar users share codes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recbole_gserec.errors import not_none
from recbole_gserec.figures import BLUE, GREEN, ORANGE, YELLOW
from recbole_gserec.files import written_aside
from recbole_gserec.preprocess.answers import STATUSES, Summary
from recbole_gserec.preprocess.code_agreement import (
    Agreement,
    CodeAgreement,
    NodeAgreement,
    NodesAgreement,
    code_agreement,
    node_agreement,
)
from recbole_gserec.preprocess.codes import code_names
from recbole_gserec.preprocess.prompts import Prompt
from recbole_gserec.preprocess.summaries import (
    SummaryStatistics,
    failure_examples,
    summary_rows,
    summary_statistics,
    token_rows,
)
from recbole_gserec.report import markdown_table
from recbole_gserec.settings import PreprocessSettings, append_suffix

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from scipy.sparse import csr_array, csr_matrix

    from recbole_gserec.preprocess.summaries import MadeSummaries
    from recbole_gserec.preprocess.vectors import MadeVectors

_SIDE_STYLES = {"search": (BLUE, "-", "o"), "recommendation": (ORANGE, "--", "s")}
_LOSS_STYLES = (("black", "-"), (BLUE, "--"), (YELLOW, "-."), (GREEN, ":"))


def draw(
    sides: Mapping[str, SideReport],
    history: Sequence[Mapping[str, Any]],
    codebook_sizes: Sequence[int],
    agreements: Mapping[str, CodeAgreement],
    answer_tokens: Mapping[str, np.ndarray],
) -> Figure:
    """Draw all panels.

    Args:
        sides: ``search`` and ``recommendation``.
        history: The RQ-VAE's checks: ``epoch``, ``losses`` by name and ``collision_rate``.
        codebook_sizes: Codes of each level.
        agreements: Agreement by side.
        answer_tokens: By side, int64 ``[n]``; if empty, there is no panel for them.
    """
    # A figure without pyplot leaves the caller's matplotlib backend and figures unchanged.
    from matplotlib.figure import Figure

    n_levels = sides["search"].codes.shape[1]
    has_tokens = any(map(len, answer_tokens.values()))
    n_below = 4 if has_tokens else 3
    figure = Figure(figsize=(3.2 * max(n_levels, n_below), 7.0), layout="constrained")
    top, bottom = figure.subfigures(2, 1, squeeze=False).ravel()
    _draw_usage(top.subplots(1, n_levels, squeeze=False)[0], sides, codebook_sizes)
    panels = bottom.subplots(1, n_below)
    _draw_training(panels[0], panels[1], history)
    _draw_lift(panels[2], agreements)
    if has_tokens:
        _draw_tokens(panels[3], answer_tokens)
    return figure


def _draw_usage(panels: Sequence[Axes], sides: Mapping[str, SideReport], codebook_sizes: Sequence[int]) -> None:
    for level, (panel, size) in enumerate(zip(panels, codebook_sizes, strict=True)):
        for side, (colour, line, _) in _SIDE_STYLES.items():
            used = sides[side].codes[sides[side].coded, level]
            usage = np.sort(np.bincount(used, minlength=size))[::-1]
            panel.step(np.arange(1, len(usage) + 1), usage, line, color=colour, where="mid", label=side)
        panel.set(title=f"Level {level + 1}", xlabel="code, by usage")
    panels[0].set_ylabel("users")
    panels[0].legend()


def _draw_training(loss_panel: Axes, collision_panel: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    epochs = [check["epoch"] for check in history]
    for name, (colour, line) in zip(history[0]["losses"], _LOSS_STYLES, strict=False):
        loss_panel.plot(epochs, [check["losses"][name] for check in history], line, color=colour, label=name)
    loss_panel.set(title="Training", xlabel="epoch", ylabel="loss", yscale="log")
    # Leaves room for the legend above the curves.
    bottom, top = loss_panel.get_ylim()
    loss_panel.set_ylim(bottom, top * (top / bottom) ** 0.3)
    loss_panel.legend(loc="upper center", fontsize="small", ncols=2, columnspacing=1)
    collision_panel.plot(epochs, [check["collision_rate"] for check in history], color="#000000")
    collision_panel.set(title="Collisions", xlabel="epoch", ylabel="collision rate")
    collision_panel.set_ylim(0, None)


def _draw_lift(panel: Axes, agreements: Mapping[str, CodeAgreement]) -> None:
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    n_levels = len(agreements["search"].prefixes)
    for shift, (side, (colour, line, marker)) in zip((-0.08, 0.08), _SIDE_STYLES.items(), strict=True):
        agreement = agreements[side]
        # Neighbours in the graph are separate from the prefixes, whose length grows from left to right.
        for indices, points in ((range(1, n_levels + 1), agreement.prefixes), ([0], [agreement.neighbours])):
            drawn = [(x + shift, point) for x, point in zip(indices, points, strict=True) if point and point.lift]
            if not drawn:
                continue
            lifts = np.array([point.lift for _, point in drawn])
            ends = np.array([point.interval or (point.lift, point.lift) for _, point in drawn])
            panel.errorbar(
                [x for x, _ in drawn],
                lifts,
                yerr=np.abs(ends - lifts[:, None]).T,
                color=colour,
                linestyle=line,
                marker=marker,
                markersize=4,
                capsize=3,
                label=side if points is agreement.prefixes else None,
            )
    panel.axhline(1, color="#000000", linewidth=0.8, linestyle=":")
    panel.set(title="Sharing codes and items", xlabel="first codes shared", ylabel="lift over chance")
    panel.set_yscale("log")
    bottom, top = panel.get_ylim()
    panel.set_ylim(min(bottom, 0.7), max(top, 3))
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panel.set_xlim(-0.5, n_levels + 0.5)
    panel.set_xticks(range(n_levels + 1), ["any", *map(str, range(1, n_levels + 1))])


def _draw_tokens(panel: Axes, answer_tokens: Mapping[str, np.ndarray]) -> None:
    edges = np.histogram_bin_edges(np.concatenate(list(answer_tokens.values())), bins=30)
    for side, (colour, line, _) in _SIDE_STYLES.items():
        panel.hist(answer_tokens[side], edges.tolist(), histtype="step", color=colour, linestyle=line, label=side)
    panel.set(title="Lengths of answers", xlabel="tokens", ylabel="prompts")


N_EXAMPLES = 3
WIDTH = 120
LONGEST_LINE = 1000
LONGEST_FAILURE = 600

HOW_TO_READ_CODES = """\
Perplexity: effective number of used codes, for each level. Dead codes: codes that no user has, for each level. \
Collision rate: users who share all their codes with others. Reconstruction error: 0 is perfect, 1 no better than \
the mean vector. All are computed over all users."""
HOW_TO_READ_AGREEMENT = """\
Pairs of users who share codes, against the same users paired by chance with others of about the same activity. \
Similarity is the mean Jaccard similarity of two users' training items. Lift is its ratio to the similarity by chance, \
with a 95 % interval: 1 means that sharing codes says nothing about sharing items. The codes were made from the \
same histories, so a lift above 1 shows that summaries, vectors and quantisation kept what users have in common. It \
does not show that recommendations become better."""

HOW_TO_READ_NODES = """\
A code by itself is a node of the graph with `code_nodes: level`, and first codes together are one with \
`code_nodes: prefix`. Shared by: users with codes whose node another user has, too. Similarity: cosine of the training \
items of a user and of another with this node, where an item weighs log(users / users with the item). Validation item: \
share of the others with this node who have the user's validation item in training. Both are means over a user's \
sharers, and then over users, and stand beside the same mean over all other users with codes (by chance). Found: pairs \
of a user and a sharer who has the item; a lift from few pairs says little. Chance here ignores activity. The \
validation items are read for this table alone. Nothing is trained on them, and test items are not read."""


class SideReport(NamedTuple):
    """The codes of one side, and what they were made from.

    Attributes:
        codes: int64 ``[n_users, L]``.
        coded: bool ``[n_users]``, which users have codes that are used.
        metrics: One side of ``codebook_metrics``.
        prompts: The prompt of each user with a history on this side, by index of the user.
        summaries: Summary of each user; ``None`` for a user without a prompt.
        texts: The text used as each user's summary, which is another one if the summary failed; ``None`` if there is
            none.
    """

    codes: np.ndarray
    coded: np.ndarray
    metrics: Mapping[str, Any]
    prompts: Mapping[int, Prompt]
    summaries: Sequence[Summary | None]
    texts: Sequence[str | None]


def save_report(
    prefix: Path,
    users: Sequence[str],
    sides: Mapping[str, SideReport],
    counts: Mapping[str, int],
    history: Sequence[Mapping[str, Any]],
    settings: PreprocessSettings,
    made_summaries: MadeSummaries,
    made_vectors: MadeVectors,
    items: csr_array | csr_matrix,
    validation_items: np.ndarray,
) -> str:
    """Write ``<prefix>.code.png`` and ``<prefix>.code.md``.

    Args:
        prefix: ``<data_path>/<D>/<D>``.
        users: Original ids.
        sides: ``search`` and ``recommendation``.
        counts: Number of users, and of users without a side.
        history: The RQ-VAE's checks: ``epoch``, ``losses`` by name and ``collision_rate``.
        settings: Settings of the offline stage.
        made_summaries: Number of summaries found in the store, and of new ones.
        made_vectors: The same for the vectors of the summaries.
        items: 0/1, ``[n_users, n_items]``: each user's set of training items.
        validation_items: int64 ``[n_users]``, column of each user's validation item; -1 for none.

    Returns:
        A short table for the log.
    """
    statistics = {side: summary_statistics(report.prompts, report.summaries) for side, report in sides.items()}
    agreements = {
        side: code_agreement(report.codes, report.coded, items, seed=settings.preprocess_seed)
        for side, report in sides.items()
    }
    nodes = {
        side: node_agreement(report.codes, report.coded, items, validation_items, seed=settings.preprocess_seed)
        for side, report in sides.items()
    }
    tokens = {side: side_statistics.answer_tokens for side, side_statistics in statistics.items()}
    sizes = settings.rqvae_settings().codebook_sizes
    with written_aside(append_suffix(prefix, ".code.png")) as temporary:
        draw(sides, history, sizes, agreements, tokens).savefig(temporary, dpi=120)
    table = metrics_table(sides)
    parts = [
        f"# Codes of {prefix.name}",
        f"{_makers(settings)}, {_levels(sizes)}; `{prefix.name}.code.json` has all settings.",
        f"Of {counts['all']:,} users, {counts['without_search']:,} have no search in the training part, "
        f"{counts['without_recommendation']:,} no interaction and {counts['without_either']:,} neither "
        f"(`missing_side: {settings.missing_side}`).",
        f"![Usage of codes, training, agreement with items]({prefix.name}.code.png)",
        *_summaries(users, sides, statistics, settings, made_summaries, made_vectors),
        "## Codes",
        table,
        HOW_TO_READ_CODES,
        "## Do codes connect similar users?",
        markdown_table(agreement_rows(agreements), numbers=False),
        HOW_TO_READ_AGREEMENT,
        "## Single codes, and codes with their prefix",
        markdown_table(node_rows(nodes), numbers=False),
        *_drawn(nodes, settings.preprocess_seed),
        HOW_TO_READ_NODES,
        *_examples(users, sides, settings),
    ]
    with written_aside(append_suffix(prefix, ".code.md")) as temporary:
        temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return table


def _makers(settings: PreprocessSettings) -> str:
    model = f" with `{settings.llm}`" if settings.summarizer != "template" else ""
    return f"Summarizer `{settings.summarizer}`{model}, encoder `{settings.encoder}`"


def _levels(sizes: Sequence[int]) -> str:
    listed = sizes if len(set(sizes)) > 1 else sizes[:1]
    return f"{len(sizes)} levels of {', '.join(map(str, listed))} codes"


def metrics_table(sides: Mapping[str, SideReport]) -> str:
    """Show how codes are used: one row per side."""
    rows = [("side", "perplexity", "dead codes", "collision rate", "reconstruction error")]
    for side, report in sides.items():
        metrics, levels = report.metrics, report.metrics["levels"]
        rows.append(
            (
                side,
                " / ".join(f"{level['perplexity']:.1f}" for level in levels),
                " / ".join(str(level["dead_codes"]) for level in levels),
                f"{metrics['collision_rate']:.1%}",
                f"{metrics['reconstruction_error']:.3f}",
            )
        )
    return markdown_table(rows, numbers=False)


def agreement_rows(agreements: Mapping[str, CodeAgreement]) -> list[tuple[str, ...]]:
    """Show how similar users with shared codes are: for each side, rows by length of the prefix and for neighbours."""
    rows: list[tuple[str, ...]] = [
        (
            "side",
            "shared",
            "pairs",
            "users",
            "item in common",
            "by chance",
            "similarity",
            "by chance",
            "lift",
            "95 % interval",
        )
    ]
    for side, agreement in agreements.items():
        n_levels = len(agreement.prefixes)
        rows.append((side, "any code", *_agreement_cells(agreement.neighbours)))
        for length, prefix in enumerate(agreement.prefixes, start=1):
            shared = "first code" if length == 1 else f"{'all' if length == n_levels else 'first'} {length} codes"
            rows.append((side, shared, *_agreement_cells(prefix)))
    return rows


def _agreement_cells(agreement: Agreement | None) -> tuple[str, ...]:
    if agreement is None:
        return ("0", "0", *["–"] * 6)
    shares = (f"{share:.1%}" for share in (agreement.common, agreement.chance_common))
    means = (f"{mean:.2g}" for mean in (agreement.jaccard, agreement.chance_jaccard))
    lift = "–" if agreement.lift is None else f"{agreement.lift:.2f}"
    interval = "–" if agreement.interval is None else "{:.2f} to {:.2f}".format(*agreement.interval)
    return (f"{agreement.n_pairs:,}", f"{agreement.n_users:,}", *shares, *means, lift, interval)


def node_rows(nodes: Mapping[str, NodesAgreement]) -> list[tuple[str, ...]]:
    """Show for both kinds of nodes of each side who shares them: a row for each level and each length of a prefix."""
    names = ("nodes", "shared by", "similarity", "by chance", "ratio", "validation item", "by chance", "lift", "found")
    rows: list[tuple[str, ...]] = [("side", "node", *names)]
    for side, agreement in nodes.items():
        # The first code by itself is the prefix of length 1.
        for level, node in enumerate(agreement.levels[1:], start=2):
            rows.append((side, f"code {level} by itself", *_node_cells(node)))
        for length, node in enumerate(agreement.prefixes, start=1):
            rows.append((side, "code 1" if length == 1 else f"codes 1 to {length}", *_node_cells(node)))
    return rows


def _node_cells(node: NodeAgreement) -> tuple[str, ...]:
    def compared(value: float | None, chance: float | None, form: str) -> tuple[str, ...]:
        cells = ("–" if part is None else format(part, form) for part in (value, chance))
        return (*cells, f"{value / chance:.1f}" if value is not None and chance else "–")

    similarity = compared(node.similarity, node.chance_similarity, ".2g")
    found = compared(node.found, node.chance_found, ".2%")
    return (f"{node.n_nodes:,}", f"{node.shared:.1%}", *similarity, *found, f"{node.n_found:,}")


def _drawn(nodes: Mapping[str, NodesAgreement], seed: int) -> list[str]:
    """Say on which sides a sample of users was measured."""
    return [
        f"Of {agreement.n_users:,} users with {side} codes, {agreement.n_drawn:,} were drawn (seed {seed}). Those who "
        "share their nodes were sought among all."
        for side, agreement in nodes.items()
        if agreement.n_drawn < agreement.n_users
    ]


def _summaries(
    users: Sequence[str],
    sides: Mapping[str, SideReport],
    statistics: Mapping[str, SummaryStatistics],
    settings: PreprocessSettings,
    made_summaries: MadeSummaries,
    made_vectors: MadeVectors,
) -> list[str]:
    parts = [
        "## Summaries",
        f"Different prompts: {made_summaries.n_kept:,} had their summary in the store, {made_summaries.n_made:,} were "
        f"summarised now. Different summaries: {made_vectors.n_kept:,} had their vector in the store, "
        f"{made_vectors.n_made:,} were encoded now.",
        markdown_table(summary_rows(statistics, model_was_asked=settings.summarizer != "template"), numbers=False),
    ]
    if tokens := token_rows(statistics):
        parts += [
            markdown_table(tokens, numbers=False),
            "Equal prompts are asked and counted once, and their last answer counts.",
        ]
    chosen = failure_examples({side: report.summaries for side, report in sides.items()}, N_EXAMPLES)
    if chosen:
        parts.append("### Failures")
    for side, user in chosen:
        summary = not_none(sides[side].summaries[user])
        answer = summary.text if len(summary.text) <= LONGEST_FAILURE else summary.text[:LONGEST_FAILURE] + " ..."
        parts.append(f"User {users[user]}, {side}: {STATUSES[summary.status]}. The answer begins:")
        parts.append(_code_block(answer or "(empty)"))
    return parts


def _examples(users: Sequence[str], sides: Mapping[str, SideReport], settings: PreprocessSettings) -> list[str]:
    report = sides["recommendation"]
    indices = np.flatnonzero(report.coded)
    chosen, n_shared = alike_users(report.codes[indices], N_EXAMPLES)
    parts = ["## Examples", f"{len(chosen)} users who share their first {n_shared} recommendation codes."]
    for user in indices[chosen].tolist():
        parts += _example(user, users[user], sides, settings)
    return parts


def alike_users(codes: np.ndarray, n: int) -> tuple[np.ndarray, int]:
    """Choose ``n`` users who share as many leading codes as possible.

    Args:
        codes: int64 ``[n_users, L]``.
        n: Number of users.

    Returns:
        Their indices, ascending (fewer than ``n`` if there are fewer users), and the number of codes they share.
    """
    for n_shared in range(codes.shape[1], 0, -1):
        _, groups, sizes = np.unique(codes[:, :n_shared], axis=0, return_inverse=True, return_counts=True)
        large = np.flatnonzero(sizes >= n)
        if len(large):
            return np.flatnonzero(groups.reshape(-1) == large[0])[:n], n_shared
    return np.arange(min(n, len(codes))), 0


def _example(user: int, name: str, sides: Mapping[str, SideReport], settings: PreprocessSettings) -> list[str]:
    parts = [f"### User {name}"]
    for side, report in sides.items():
        row = slice(user, user + 1)
        cell = code_names(report.codes[row], side[0], report.coded[row])[0]
        parts.append(f"{side.capitalize()} codes: {f'`{cell}`' if cell else 'none'}")
        if user not in report.prompts:
            parts.append(f"No {side} history.")
            continue
        parts += [_code_block(report.prompts[user].text), *_what_was_encoded(side, report, user, settings)]
    return parts


def _what_was_encoded(side: str, report: SideReport, user: int, settings: PreprocessSettings) -> list[str]:
    summary, text = not_none(report.summaries[user]), report.texts[user]
    if summary.is_usable:
        return [f"Summary of the {side} history:", _code_block(text or "(empty)")]
    failure = f"The summary of the {side} history failed: {STATUSES[summary.status]}."
    if text is None:
        return [f"{failure} The side counts as missing (`missing_side: {settings.missing_side}`)."]
    return [f"{failure} It is replaced by:", _code_block(text or "(empty)")]


def _code_block(text: str) -> str:
    """Indent a text as a code block; no character of the text can end such a block."""
    lines = (line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE] + " ..." for line in text.splitlines())
    wrapper = textwrap.TextWrapper(WIDTH, break_on_hyphens=False, break_long_words=False)
    wrapped = (wrapper.fill(line) for line in lines)
    return textwrap.indent("\n".join(wrapped), "    ", lambda line: True)
