"""``gserec analyze ablation``: the model without each of its parts (Table 3 and Figure 5 of GSERec)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from recbole_gserec import escaping
from recbole_gserec.analyze import ablation_table, group_tables
from recbole_gserec.analyze.group_figure import draw_groups
from recbole_gserec.analyze.group_results import GroupResults
from recbole_gserec.analyze.groups import Grouping, compare_models, results_page
from recbole_gserec.analyze.variants import FULL, VARIANTS, Variant, check_variants, variant_code_settings
from recbole_gserec.benchmark import made_with, significance_table
from recbole_gserec.benchmark.given import canonical
from recbole_gserec.benchmark.metrics import DEFAULT_METRICS, Metric
from recbole_gserec.benchmark.model_names import OURS
from recbole_gserec.benchmark.model_runs import ModelRuns
from recbole_gserec.benchmark.plan import Request
from recbole_gserec.benchmark.results import StoredRun, load_runs
from recbole_gserec.benchmark.runner import LocalPool, Outcome, Pool, make_runs, plan, read_outcome
from recbole_gserec.benchmark.runs import Spec
from recbole_gserec.benchmark.significance import compare, comparisons_frame
from recbole_gserec.errors import GSERecError, SettingError
from recbole_gserec.report_files import write_csv, write_figure, write_text


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
        specs[variant.label] = plan(_request(request, {**settings, **own}), request.output)
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
    page = ["# Ablation", f"## {escaping.markdown(request.dataset)}"]
    page += [ablation_table.markdown(cells, request.metrics, table)]
    page += [escaping.markdown(line) for line in _failures(cells)]
    page += [escaping.markdown(line) for line in [made_with.describe_mixed_code(request.dataset, cells)] if line]
    page += ["## Tests", significance_table.markdown(table).rstrip()]
    page += _groups_page(groups, full, request, folder)
    page += ["## Settings", made_with.settings_markdown(request.dataset, cells)]
    write_csv(folder / "ablation.csv", ablation_table.frame(cells, request.metrics))
    write_csv(folder / "significance.csv", comparisons_frame(table))
    write_csv(folder / "groups.csv", group_tables.group_frame(groups))
    write_text(folder / "ablation.md", "\n\n".join(page) + "\n")
    return folder / "ablation.md"


def _groups_page(groups: GroupResults, full: ModelRuns, request: AblationRequest, folder: Path) -> list[str]:
    parts = ["## By group of users", *results_page(groups, full, [request.group_metric], request.grouping.by)]
    if len(groups.comparisons):
        write_figure(folder, "groups", draw_groups(groups, request.group_metric, request.grouping.by))
        parts.append("![Improvement of the full model by group](groups.png)")
    return [*parts, group_tables.HOW_TO_READ]


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
