"""The report's figure: usage of codes, training curves, agreement of codes with items, lengths of answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recbole_gserec.figure_panels import BLUE, GREEN, ORANGE, YELLOW
from recbole_gserec.preprocess.code_agreement import CodeAgreement

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from recbole_gserec.preprocess.report import SideReport

_SIDE_STYLES = {"search": (BLUE, "-", "o"), "recommendation": (ORANGE, "--", "s")}
_LOSS_STYLES = (("black", "-"), (BLUE, "--"), (YELLOW, "-."), (GREEN, ":"))


def draw(
    sides: Mapping[str, SideReport],
    history: Sequence[Mapping[str, Any]],
    codebook_size: int,
    agreements: Mapping[str, CodeAgreement],
    answer_tokens: Mapping[str, np.ndarray],
) -> Figure:
    """Draw all panels.

    Args:
        sides: ``search`` and ``recommendation``.
        history: The RQ-VAE's checks: ``epoch``, ``losses`` by name and ``collision_rate``.
        codebook_size: Codes per level.
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
    _draw_usage(top.subplots(1, n_levels, squeeze=False)[0], sides, codebook_size)
    panels = bottom.subplots(1, n_below)
    _draw_training(panels[0], panels[1], history)
    _draw_lift(panels[2], agreements)
    if has_tokens:
        _draw_tokens(panels[3], answer_tokens)
    return figure


def _draw_usage(panels: Sequence[Axes], sides: Mapping[str, SideReport], codebook_size: int) -> None:
    for level, panel in enumerate(panels):
        for side, (colour, line, _) in _SIDE_STYLES.items():
            used = sides[side].codes[sides[side].coded, level]
            usage = np.sort(np.bincount(used, minlength=codebook_size))[::-1]
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
