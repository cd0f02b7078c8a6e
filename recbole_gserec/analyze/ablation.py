"""``gserec analyze ablation``: the model without each of its parts (Table 3 and Figure 5 of GSERec)."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from recbole_gserec.analyze.group_results import GroupResults, draw_groups
from recbole_gserec.analyze.groups import HOW_TO_READ, Grouping, compare_models, group_frame, results_page
from recbole_gserec.errors import DataError, GSERecError, SettingError
from recbole_gserec.preprocess import other_codes, read_code_record
from recbole_gserec.report import NO_VALUE, escape_markdown, markdown_table, write_csv, write_figure, write_text
from recbole_gserec.results import (
    DEFAULT_METRICS,
    Comparison,
    Metric,
    ModelRuns,
    StoredRun,
    compare,
    comparisons_frame,
    describe_mixed_code,
    load_runs,
    rounded_mean,
    settings_markdown,
    significance_markdown,
)
from recbole_gserec.runs import LocalPool, Outcome, Pool, Request, Spec, canonical, make_runs, plan_runs, read_outcome
from recbole_gserec.settings import OURS

WEIGHT_OF_CODES = "lambda_rq_cl"


@dataclass(frozen=True)
class Variant:
    """A row of the table.

    Attributes:
        name: Name in the command.
        label: Printed name.
        settings: Settings on top of the full model's.
    """

    name: str
    label: str
    settings: Mapping[str, Any]

    @property
    def has_own_codes(self) -> bool:
        """Whether its users have other codes than the dataset's."""
        return WEIGHT_OF_CODES in self.settings


FULL = Variant("full", "GSERec", {})
VARIANTS = (
    Variant("rq-cl", "w/o L_RQ-CL", {WEIGHT_OF_CODES: 0.0}),
    Variant("graph", "w/o U-C Graph", {"use_user_code_graph": False}),
    Variant("u-cl", "w/o L_U-CL", {"lambda_u_cl": 0.0}),
    Variant("his-cl", "w/o L_His-CL", {"lambda_his_cl": 0.0}),
    Variant("mca", "w/o MCA", {"use_code_fusion": False}),
)
"""In the order of the paper."""
CONTROLS = (
    Variant("codes", "permuted codes", {"code_users": "permuted"}),
    Variant("messages", "w/o messages (K = 0)", {"n_graph_layers": 0}),
    Variant(
        "links",
        "user vectors alone",
        {"n_graph_layers": 0, "use_code_fusion": False, "lambda_u_cl": 0.0, "lambda_his_cl": 0.0},
    ),
)
"""Not in the paper; trained if they are named."""


def chosen_variants(names: list[str]) -> tuple[Variant, ...]:
    """Return the variants and controls with these names, the paper's in its order first; by default the paper's.

    Raises:
        SettingError: For an unknown name.
    """
    known = [variant.name for variant in VARIANTS + CONTROLS]
    for name in names:
        if name not in known:
            raise SettingError(f"--without is '{name}'; it must be one of {', '.join(known)}")
    return tuple(variant for variant in VARIANTS + CONTROLS if variant.name in names) if names else VARIANTS


def check_variants(variants: tuple[Variant, ...], settings: Mapping[str, Any]) -> None:
    """Refuse variants that equal the full model under the common settings, or that would override those settings.

    Raises:
        SettingError: With the setting.
    """
    for variant in variants:
        if all(name in settings and settings[name] == value for name, value in variant.settings.items()):
            what = ", ".join(f"{name} is {settings[name]}" for name in variant.settings)
            raise SettingError(f"{what}, so the full model is the same as '{variant.label}'")
    if any(variant.has_own_codes for variant in variants) and settings.get("code_path"):
        raise SettingError(
            "code_path is set, so 'w/o L_RQ-CL' would use the same codes. Name the other parts with --without"
        )


def variant_code_settings(variant: Variant, dataset: str, data_path: Path, output: Path) -> dict[str, Any]:
    """Return the settings of a variant with its own codes. They are made like the dataset's, but without one part.

    The codes are stored in a separate file; summaries and vectors come from the dataset's store.

    Args:
        variant: The variant.
        dataset: Name of the dataset, whose codes exist.
        data_path: Parent folder of all datasets.
        output: Folder of the ablation.

    Raises:
        DataError: If it is unknown how the dataset's codes were made, or they were made without that part.
    """
    prefix = Path(data_path).absolute() / dataset / dataset
    code_file = prefix.with_name(f"{dataset}.code")
    advice = "Make the codes by gserec preprocess, or leave out this variant (--without)"
    record = read_code_record(code_file, advice)
    for name, value in variant.settings.items():
        if record.settings.get(name) == value:
            raise DataError(code_file, f"made with {name}={value}: '{variant.label}' would be the same", advice)
    deciding = json.loads(json.dumps({**record.non_default_settings(dataset), **variant.settings}))
    return {**other_codes(Path(output).absolute(), prefix.parents[1], dataset, deciding), **deciding}


LEGEND = (
    "Mean over users and seeds, ± standard deviation over seeds if there are several; the best in bold. \\*: the full "
    "model differs significantly from the variant, p < 0.05 after Holm's correction for the number of variants. The "
    "test is the two-way test over users and seeds or, if all have one seed, the paired t-test over users, which does "
    "not count random differences between trainings."
)


def ablation_markdown(cells: Sequence[ModelRuns], metrics: Sequence[Metric], comparisons: Sequence[Comparison]) -> str:
    """Write the table and its explanation.

    Args:
        cells: The full model first, then the variants, possibly without a finished run.
        metrics: The columns.
        comparisons: The full model against the variants.
    """
    found = {(each.model, each.metric): each for each in comparisons}
    best = {metric: max(rounded_mean(cell, metric) for cell in cells if cell.finished) for metric in metrics}
    rows = [["model", *(metric.label for metric in metrics), "seeds"]]
    for cell in cells:
        row = [escape_markdown(cell.model)]
        for metric in metrics:
            if not cell.finished:
                row.append(NO_VALUE)
                continue
            means = cell.means(metric)
            text = f"{means.mean():.4f}"
            text = f"**{text}**" if rounded_mean(cell, metric) == best[metric] else text
            comparison = found.get((cell.model, metric.name))
            text += r"\*" if comparison and comparison.beyond_chance else ""
            row.append(text + (f" ± {means.std(ddof=1):.4f}" if len(means) > 1 else ""))
        rows.append([*row, ", ".join(map(str, cell.finished)) or NO_VALUE])
    return markdown_table(rows) + "\n\n" + LEGEND


def ablation_frame(cells: Sequence[ModelRuns], metrics: Sequence[Metric]) -> pd.DataFrame:
    """Make one row for each variant and metric; variants without a finished run have no mean."""
    rows = []
    for cell in cells:
        for metric in metrics:
            means = cell.means(metric)
            rows.append(
                {
                    "dataset": cell.dataset,
                    "model": cell.model,
                    "metric": metric.name,
                    "mean": means.mean() if len(means) else None,
                    "deviation": means.std(ddof=1) if len(means) > 1 else None,
                    "seeds": " ".join(map(str, cell.finished)),
                }
            )
    return pd.DataFrame(rows).astype({"mean": float, "deviation": float})


@dataclass(frozen=True)
class AblationRequest:
    """The ablation to make.

    Attributes:
        dataset: Name of the dataset.
        seeds: Seeds of the trainings.
        data_path: Parent folder of all datasets.
        output: Folder of the runs and the result.
        settings: Settings of the full model and all variants.
        variants: See :mod:`variants`.
        grouping: How users are grouped.
        metrics: Columns of the table.
        group_metric: Metric that groups are compared by.
    """

    dataset: str
    seeds: Sequence[int]
    data_path: Path
    output: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    variants: tuple[Variant, ...] = VARIANTS
    grouping: Grouping = Grouping()
    metrics: tuple[Metric, ...] = DEFAULT_METRICS
    group_metric: Metric = Metric("ndcg", 5)


class AblationResult(NamedTuple):
    """The result of an ablation.

    Attributes:
        page: ``ablation.md``.
        unfinished: Number of runs that failed or that another process is making.
    """

    page: Path
    unfinished: int


def analyze_ablation(request: AblationRequest, make_pool: Callable[[], Pool] = LocalPool) -> AblationResult:
    """Train the full model and the model without each part, as a benchmark does, and compare them.

    Finished runs are skipped, so the same call resumes an interrupted ablation.

    Args:
        request: The ablation to make.
        make_pool: Creates the pool that makes the runs.

    Raises:
        GSERecError: If the request cannot be run, or no run of the full model succeeds.
    """
    settings = canonical(request.settings)
    check_variants(request.variants, settings)
    _check_folder(request.output)
    for variant in request.variants:
        if variant.has_own_codes and (request.data_path / request.dataset / f"{request.dataset}.code").is_file():
            # Report what makes this impossible before the full model is trained.
            variant_code_settings(variant, request.dataset, request.data_path, request.output)
    specs: dict[str, list[Spec]] = {}
    for variant in (FULL, *request.variants):
        own = variant.settings
        if variant.has_own_codes:
            # Planning the full model creates the dataset's codes, from which these differ in one setting.
            own = variant_code_settings(variant, request.dataset, request.data_path, request.output)
            Path(own["code_path"]).parent.mkdir(parents=True, exist_ok=True)
        specs[variant.label] = plan_runs(_request(request, {**settings, **own}), request.output)
    _make(specs, request, make_pool)
    outcomes = {label: read_outcome(own_specs) for label, own_specs in specs.items()}
    page = write_ablation(request, outcomes)
    return AblationResult(page, sum(outcome.failed + outcome.elsewhere for outcome in outcomes.values()))


def _request(request: AblationRequest, settings: Mapping[str, Any]) -> Request:
    return Request([request.dataset], [OURS], request.seeds, request.data_path, settings)


def _make(specs: Mapping[str, Sequence[Spec]], request: AblationRequest, make_pool: Callable[[], Pool]) -> None:
    """Make the runs of all variants: a whole comparison for the first seed, then one for the next."""
    labels = {spec.folder: label for label, own in specs.items() for spec in own}

    def title_of(spec: Spec) -> str:
        return f"{labels[spec.folder]} on {request.dataset}, seed {spec.run.seed}"

    ordered = [spec for of_a_seed in zip(*specs.values(), strict=True) for spec in of_a_seed]
    make_runs(ordered, request.output, make_pool, title_of=title_of)


def _check_folder(output: Path) -> None:
    """Refuse a benchmark's folder, because its report would show the newest variant as the model."""
    others = {path.name for path in Path(output).glob("runs/*/*") if path.is_dir()} - {OURS}
    found = f"runs of {sorted(others)[0]}" if others else "the report of a benchmark"
    if others or (Path(output) / "report").exists():
        raise SettingError(f"{output} has {found}; an ablation needs its own folder (--output)")


def write_ablation(request: AblationRequest, outcomes: Mapping[str, Outcome]) -> Path:
    """Write the tables and the figure from stored runs.

    Args:
        request: The ablation.
        outcomes: Runs of the full model, which comes first, and of the variants, by printed name.

    Returns:
        The page ``<output>/analyze/ablation/ablation.md``.

    Raises:
        GSERecError: If the full model has no finished run.
    """
    stored = load_runs(request.output)
    cells = [_cell(label, outcome, stored, request) for label, outcome in outcomes.items()]
    full, others = cells[0], [cell for cell in cells[1:] if cell.finished]
    if not full.finished:
        reasons = [run.problem for run in full.runs] or ["no run"]
        raise GSERecError(f"the full model has no finished run in {request.output}: {reasons[0]}")
    table = compare(full, others, request.metrics)
    groups = compare_models(full, others, [request.group_metric], request.grouping, request.data_path)
    folder = Path(request.output) / "analyze" / "ablation"
    page = ["# Ablation", f"## {escape_markdown(request.dataset)}"]
    page += [ablation_markdown(cells, request.metrics, table)]
    page += [escape_markdown(line) for line in _failures(cells)]
    page += [escape_markdown(line) for line in [describe_mixed_code(request.dataset, cells)] if line]
    page += ["## Tests", significance_markdown(table).rstrip()]
    page += _groups_page(groups, full, request, folder)
    page += ["## Settings", settings_markdown(request.dataset, cells)]
    write_csv(folder / "ablation.csv", ablation_frame(cells, request.metrics))
    write_csv(folder / "significance.csv", comparisons_frame(table))
    write_csv(folder / "groups.csv", group_frame(groups))
    write_text(folder / "ablation.md", "\n\n".join(page) + "\n")
    return folder / "ablation.md"


def _groups_page(groups: GroupResults, full: ModelRuns, request: AblationRequest, folder: Path) -> list[str]:
    parts = ["## By group of users", *results_page(groups, full, [request.group_metric], request.grouping.by)]
    if len(groups.comparisons):
        write_figure(folder, "groups", draw_groups(groups, request.group_metric, request.grouping.by))
        parts.append("![Improvement of the full model by group](groups.png)")
    return [*parts, HOW_TO_READ]


def _cell(label: str, outcome: Outcome, stored: Sequence[StoredRun], request: AblationRequest) -> ModelRuns:
    """Return the runs of a variant, under its printed name."""
    runs = [run for run in stored if run.key in outcome.keys and run.dataset == request.dataset]
    runs = [replace(run, model=label) for run in runs if run.seed in request.seeds]
    return ModelRuns(request.dataset, label, tuple(sorted(runs, key=lambda run: run.seed)))


def _failures(cells: Sequence[ModelRuns]) -> list[str]:
    return [
        f"{cell.model}, seed {run.seed}: {run.state} ({run.problem})."
        for cell in cells
        for run in cell.runs
        if run.problem is not None
    ]
