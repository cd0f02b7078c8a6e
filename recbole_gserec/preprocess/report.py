"""A report on the codes, for the eye: do users share codes, and are those who do alike?"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recbole_gserec.files import written_aside
from recbole_gserec.preprocess.code_file import beside, code_names
from recbole_gserec.preprocess.prompts import Prompt
from recbole_gserec.preprocess.settings import PreprocessSettings

N_EXAMPLES = 3
WIDTH = 120
LONGEST_LINE = 1000
# Okabe and Ito's colours, told apart by colour-blind readers; the line style says the same again.
SIDE_STYLES = {"search": ("#0072B2", "-"), "recommendation": ("#D55E00", "--")}
LOSS_STYLES = (("#000000", "-"), ("#0072B2", "--"), ("#E69F00", "-."), ("#009E73", ":"))


class SideReport(NamedTuple):
    """One side's codes and what they were made of.

    Attributes:
        codes: int64 ``[n_users, L]``.
        coded: bool ``[n_users]``, whose codes are used.
        metrics: As ``codebook_metrics`` gives them for a side.
        prompts: The prompt of each user with a history on this side, by place of the user.
        summaries: Of each user; ``None`` for a user without a prompt.
    """

    codes: np.ndarray
    coded: np.ndarray
    metrics: Mapping[str, Any]
    prompts: Mapping[int, Prompt]
    summaries: Sequence[str | None]


def save_report(
    prefix: Path,
    users: Sequence[str],
    sides: Mapping[str, SideReport],
    counts: Mapping[str, int],
    history: Sequence[Mapping[str, Any]],
    settings: PreprocessSettings,
) -> str:
    """Write ``<prefix>.code.png`` and ``<prefix>.code.md``.

    Args:
        prefix: ``<data_path>/<D>/<D>``.
        users: Original ids.
        sides: ``search`` and ``recommendation``.
        counts: How many users there are, and how many lack a side.
        history: The RQ-VAE's checks: ``epoch``, ``losses`` by name and ``collision_rate``.
        settings: Of the offline stage.

    Returns:
        A short table for the log.
    """
    with written_aside(beside(prefix, ".code.png")) as temporary:
        _draw(sides, history, settings.codebook_size).savefig(temporary, dpi=120)
    table = metrics_table(sides)
    chosen, n_shared = alike_users(sides["recommendation"].codes[sides["recommendation"].coded], N_EXAMPLES)
    chosen = np.flatnonzero(sides["recommendation"].coded)[chosen]
    parts = [
        f"# Codes of {prefix.name}",
        f"Summarizer `{settings.summarizer}`, encoder `{settings.encoder}`, {settings.n_codebooks} levels of "
        f"{settings.codebook_size} codes; `{prefix.name}.code.json` has all settings.",
        f"Of {counts['all']:,} users, {counts['without_search']:,} have no search in the training part, "
        f"{counts['without_recommendation']:,} no interaction and {counts['without_either']:,} neither "
        f"(`missing_side: {settings.missing_side}`).",
        table,
        "Perplexity says how many codes of a level are in effective use and dead codes are used by nobody, level by "
        "level. Collision rate: users without a sequence of codes of their own. Reconstruction error: 0 is perfect, "
        "1 no better than the mean vector. All are of the quantizer, over all users.",
        f"![Usage of codes and training curves]({prefix.name}.code.png)",
        "## Examples",
        f"{len(chosen)} users who share their first {n_shared} recommendation codes.",
    ]
    for user in chosen:
        parts += _example(user, users[user], sides)
    with written_aside(beside(prefix, ".code.md")) as temporary:
        temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return table


def metrics_table(sides: Mapping[str, SideReport]) -> str:
    """A Markdown table that is readable as it is: one row per side."""
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
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def alike_users(codes: np.ndarray, n: int) -> tuple[np.ndarray, int]:
    """Choose ``n`` users who share as many leading codes as any ``n`` do.

    Args:
        codes: int64 ``[n_users, L]``.
        n: How many users.

    Returns:
        Their places, ascending (fewer than ``n`` if there are fewer users), and the number of codes they share.
    """
    for n_shared in range(codes.shape[1], 0, -1):
        _, groups, sizes = np.unique(codes[:, :n_shared], axis=0, return_inverse=True, return_counts=True)
        large = np.flatnonzero(sizes >= n)
        if len(large):
            return np.flatnonzero(groups.reshape(-1) == large[0])[:n], n_shared
    return np.arange(min(n, len(codes))), 0


def _example(user: int, name: str, sides: Mapping[str, SideReport]) -> list[str]:
    parts = [f"### User {name}"]
    for side, report in sides.items():
        row = slice(user, user + 1)
        cell = code_names(report.codes[row], side[0], report.coded[row])[0]
        parts.append(f"{side.capitalize()} codes: {f'`{cell}`' if cell else 'none'}")
        if user not in report.prompts:
            parts.append(f"No {side} history.")
            continue
        parts += [_code_block(report.prompts[user].text), f"Summary of the {side} history:"]
        parts.append(_code_block(report.summaries[user] or "(empty)"))
    return parts


def _code_block(text: str) -> str:
    """An indented block, which no character of the text can end."""
    lines = (line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE] + " ..." for line in text.splitlines())
    wrapper = textwrap.TextWrapper(WIDTH, break_on_hyphens=False, break_long_words=False)
    wrapped = (wrapper.fill(line) for line in lines)
    return textwrap.indent("\n".join(wrapped), "    ", lambda line: True)


def _draw(sides: Mapping[str, SideReport], history: Sequence[Mapping[str, Any]], codebook_size: int):
    # A figure of its own, without pyplot, leaves the caller's matplotlib backend and figures alone.
    from matplotlib.figure import Figure

    n_levels = sides["search"].codes.shape[1]
    figure = Figure(figsize=(max(9.0, 3.0 * n_levels), 6.5), layout="constrained")
    top, bottom = figure.subfigures(2, 1)
    panels = top.subplots(1, n_levels, squeeze=False)[0]
    for level, panel in enumerate(panels):
        for side, (colour, line) in SIDE_STYLES.items():
            used = sides[side].codes[sides[side].coded, level]
            usage = np.sort(np.bincount(used, minlength=codebook_size))[::-1]
            panel.step(np.arange(1, len(usage) + 1), usage, line, color=colour, where="mid", label=side)
        panel.set(title=f"Level {level + 1}", xlabel="code, by usage")
    panels[0].set_ylabel("users")
    panels[0].legend()

    loss_panel, collision_panel = bottom.subplots(1, 2)
    epochs = [check["epoch"] for check in history]
    for name, (colour, line) in zip(history[0]["losses"], LOSS_STYLES, strict=False):
        loss_panel.plot(epochs, [check["losses"][name] for check in history], line, color=colour, label=name)
    loss_panel.set(xlabel="epoch", ylabel="loss", yscale="log")
    loss_panel.legend(loc="center right")
    collision_panel.plot(epochs, [check["collision_rate"] for check in history], color="#000000")
    collision_panel.set(xlabel="epoch", ylabel="collision rate", ylim=(0, None))
    return figure
