"""The page of measurements that ``run.py`` writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recbole_gserec.report import markdown_table


def page(measured: dict[str, dict[str, Any]], sizes: Sequence[str]) -> str:
    """Return all measurements of the given sizes as Markdown."""

    def of(name: str, key: str) -> list[Any]:
        return [measured[size].get(name, {}).get(key) for size in sizes]

    def line(title: str, values: Sequence[Any], form: str) -> list[str]:
        return [title, *("–" if value is None else f"{value:{form}}" for value in values)]

    def ratio(name: str, other: str, key: str) -> list[Any]:
        pairs = zip(of(name, key), of(other, key), strict=True)
        return [None if ours is None or theirs is None else theirs / ours for ours, theirs in pairs]

    head = [["", *of("data", "dataset")]]
    machines = dict.fromkeys(
        ", ".join(f"{part} {text}" for part, text in measured[size]["machine"].items()) for size in sizes
    )
    parts = ["# Measured", f"CPU seconds of one thread. {'; '.join(machines)}."]
    counts = [line(name, of("data", name), ",") for name in ("users", "interactions", "searches", "history")]
    parts += ["## Data", markdown_table(head + counts)]
    ours, stock = "first batch, GSERec", "first batch, RecBole"
    batch = [
        line("this package: interactions, searches, codes, s", of(ours, "cpu_seconds"), ".3g"),
        line("RecBole: interactions alone (SASRec), s", of(stock, "cpu_seconds"), ".3g"),
        line("times as fast", ratio(ours, stock, "cpu_seconds"), ".2f"),
        line("this package, peak GiB", of(ours, "peak_gib"), ".2f"),
        line("RecBole, peak GiB", of(stock, "peak_gib"), ".2f"),
    ]
    parts += ["## From the files to the first batch", markdown_table(head + batch)]
    names = [name.split(", ")[1] for name in measured[sizes[0]] if name.startswith("training, ")]
    training = [line(name, of(f"training, {name}", "rows_per_second"), ",.0f") for name in names]
    training.append(line("GSERec, peak GiB", of("training, GSERec", "peak_gib"), ".2f"))
    shares = [line(name, of(f"training, {name}", "share_of_arithmetic"), ".0%") for name in names]
    parts += ["## Training rows per second", markdown_table(head + training)]
    parts += [
        "Share of the arithmetic of one large matrix product that the steps reach:",
        markdown_table(head + shares),
    ]
    plain = [
        line("a step of this package, s", of("plain", "step_seconds"), ".3g"),
        line("plain, s", of("plain", "plain_step_seconds"), ".3g"),
        line("training, times as fast", of("plain", "training_times_as_fast"), ".2f"),
        line("sampled evaluation, times as fast", of("plain", "sampled_times_as_fast"), ".1f"),
        line("full evaluation, times as fast", of("plain", "full_times_as_fast"), ".1f"),
        line("message passing once before an evaluation, s", of("plain", "propagation_seconds"), ".2g"),
        line("the same, plain, s", of("plain", "plain_propagation_seconds"), ".2g"),
        line("losses apart (relative)", of("plain", "losses_apart"), ".1e"),
        line("scores apart, sampled (in deviations)", of("plain", "sampled_scores_apart"), ".1e"),
        line("scores apart, full", of("plain", "full_scores_apart"), ".1e"),
    ]
    if any("plain" in measured[size] for size in sizes):
        parts += ["## GSERec against its plainest form", markdown_table(head + plain)]
    others = [
        line("sampled evaluation, users/s", of("sampled evaluation", "users_per_second"), ",.0f"),
        line("full evaluation, users/s", of("full evaluation", "users_per_second"), ",.2f"),
        line("its peak GiB", of("full evaluation", "peak_gib"), ".2f"),
        line("`gserec recommend`, users/s", of("recommend", "users_per_second"), ",.2f"),
        line("its peak GiB", of("recommend", "peak_gib"), ".2f"),
        line("RQ-VAE training, users/s", of("rqvae", "users_per_second"), ",.0f"),
        line("RQ-VAE, times as fast as plain", of("rqvae", "times_as_fast"), ".2f"),
    ]
    parts += ["## GSERec's evaluation, recommendation and codes", markdown_table(head + others)]
    small = measured.get("small", {})
    stocks = [(name.split(", ")[1], value) for name, value in small.items() if name.startswith("stock evaluation, ")]
    if stocks:
        table = [["", "RecBole alone, s", "this package, s", "times as fast"]]
        keys = (("stock_seconds", ".3g"), ("package_seconds", ".3g"), ("times_as_fast", ".0f"))
        table += [[name, *(f"{value[key]:{form}}" for key, form in keys)] for name, value in stocks]
        title = f"## RecBole's own models, sampled evaluation on {small['data']['dataset']}"
        parts += [title, markdown_table(table)]
    return "\n\n".join(parts) + "\n"
