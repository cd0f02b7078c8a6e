"""``gserec analyze``: the paper's figures and tables from finished work, a command for each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recbole_gserec.cli.commands import group_of
from recbole_gserec.cli.options import (
    Address,
    ConfigFiles,
    CpusPerRun,
    DataPath,
    DataPathOfTraining,
    GpusPerRun,
    ModelOfCheckpoint,
    Workers,
    names_in,
    parse_settings,
    pool_maker,
    seeds_in,
)
from recbole_gserec.compute import while_importing
from recbole_gserec.errors import SettingError

if TYPE_CHECKING:
    from recbole_gserec.analyze import Grouping

By = Annotated[str, typer.Option(help="Training events counted for each user: searches or interactions.")]
Groups = Annotated[
    str | None,
    typer.Option(help="User groups by number of events, such as '0,1-5,6-20,21-'.", show_default="quantiles"),
]
Quantiles = Annotated[
    int, typer.Option(min=1, max=100, help="Number of equally large user groups, if --groups is not set.")
]


def grouping(by: str, groups: str | None, quantiles: int) -> Grouping:
    """Build the user grouping that the options describe."""
    from recbole_gserec.analyze import Grouping, parse_groups

    return Grouping(by, parse_groups(groups) if groups is not None else None, quantiles)


def show(page: Path) -> None:
    """Print a Markdown page to standard error and its path to standard output."""
    from rich.console import Console
    from rich.markdown import Markdown

    console, text = Console(stderr=True), page.read_text(encoding="utf-8")
    if max(len(line) for line in text.splitlines() if line.startswith(("|", "#"))) <= console.width:
        console.print(Markdown(text, hyperlinks=False))
    else:
        # A narrow table would cut off digits, so the page is printed as plain Markdown.
        console.print(text, soft_wrap=True, markup=False, highlight=False)
    typer.echo(page)


def groups(
    runs: Annotated[Path, typer.Option(file_okay=False, help="Folder of a benchmark.")] = Path("benchmark"),
    model: Annotated[str, typer.Option("--model", "-m", help="Model to compare with the baselines.")] = "GSERec",
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            "--baseline", "-b", help="Baseline model; repeat the option for several.", show_default="all others"
        ),
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option("--dataset", "-d", help="Name of a dataset; repeat the option for several.", show_default="all"),
    ] = None,
    by: By = "searches",
    groups: Groups = None,
    quantiles: Quantiles = 4,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="Metric such as HR@10; repeat the option for several. The figure shows the first.",
            show_default="NDCG@5",
        ),
    ] = None,
    data_path: DataPath = Path("dataset"),
    output: Annotated[
        Path | None, typer.Option(file_okay=False, help="Folder for the result.", show_default="RUNS/analyze/groups")
    ] = None,
) -> None:
    """Compare a model with baselines within groups of users who search rarely or often (Figures 2 and 5).

    The command reads the stored ranks of a benchmark and the dataset's files. It trains nothing.
    """
    with while_importing():
        from recbole_gserec.analyze import analyze_groups
        from recbole_gserec.results import chosen_metrics

    page = analyze_groups(
        runs,
        model,
        data_path=data_path,
        baselines=names_in(baseline),
        datasets=names_in(dataset),
        metrics=chosen_metrics(names_in(metric) or ["NDCG@5"]),
        grouping=grouping(by, groups, quantiles),
        output=output,
    )
    show(page)


def ablation(
    context: typer.Context,
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Name of the dataset.")],
    without: Annotated[
        list[str] | None,
        typer.Option(
            help="Parts to leave out: rq-cl, graph, u-cl, his-cl, mca; and controls: codes, messages, links.",
            show_default="each part",
        ),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Random seeds of the runs, separated by commas.")] = "2020",
    output: Annotated[
        Path, typer.Option(file_okay=False, help="Folder for the runs and the result; do not use a benchmark's folder.")
    ] = Path("ablation"),
    data_path: DataPath = Path("dataset"),
    by: By = "searches",
    groups: Groups = None,
    quantiles: Quantiles = 4,
    metric: Annotated[str, typer.Option(help="Metric that compares the user groups.")] = "NDCG@5",
    workers: Workers = None,
    address: Address = None,
    cpus_per_run: CpusPerRun = None,
    gpus_per_run: GpusPerRun = None,
    config_file: ConfigFiles = None,
) -> None:
    """Train GSERec with all its parts and without each of them, and compare the results (Table 3 and Figure 5).

    As in `gserec benchmark`, finished runs are skipped, so repeating the command resumes an interrupted ablation. Add
    any setting as --name=value, for example --epochs=50.
    """
    requested = parse_settings(context.args)

    with while_importing():
        from recbole_gserec.analyze import AblationRequest, analyze_ablation, chosen_variants
        from recbole_gserec.results import parse_metric
        from recbole_gserec.runs import read_shared_settings

    settings = {**read_shared_settings(config_file or [], ["GSERec"], [dataset]), **requested}
    request = AblationRequest(
        dataset,
        seeds_in(seeds),
        data_path,
        output,
        settings,
        chosen_variants(names_in(without)),
        grouping(by, groups, quantiles),
        group_metric=parse_metric(metric),
    )
    result = analyze_ablation(request, pool_maker(workers, address, cpus_per_run, gpus_per_run, settings))
    show(result.page)
    if result.unfinished:
        typer.echo(f"unfinished runs: {result.unfinished}; the page gives the reasons", err=True)
        raise typer.Exit(1)


def sensitivity(
    sweep: Annotated[
        Path | None, typer.Option(file_okay=False, help="Folder of a sweep: <output>/<dataset>/<model> of gserec tune.")
    ] = None,
    runs: Annotated[
        Path | None, typer.Option(file_okay=False, help="Folder of a benchmark with runs of different settings.")
    ] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="Name of the model; only with --runs.")] = "GSERec",
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", "-d", help="Name of the dataset; only with --runs.", show_default="the only one"),
    ] = None,
    metric: Annotated[str, typer.Option(help="Test metric; only with --runs. A sweep has its own metric.")] = "NDCG@5",
    output: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Folder for the result.", show_default="analyze/sensitivity in that folder"),
    ] = None,
) -> None:
    """Show the score for each value of each hyper-parameter (Figure 7), from finished trials or runs."""
    folder = runs if sweep is None else sweep
    if folder is None or (sweep is not None and runs is not None):
        raise SettingError("give either --sweep (a folder of gserec tune) or --runs (a folder of gserec benchmark)")
    with while_importing():
        from recbole_gserec.analyze import read_benchmark, read_sweep, write_sensitivity
        from recbole_gserec.results import parse_metric

    tried = read_sweep(sweep) if sweep else read_benchmark(folder, model, dataset, parse_metric(metric))
    show(write_sensitivity(tried, output or folder / "analyze" / "sensitivity"))


def stats(
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Name of the dataset.")],
    groups: Annotated[
        str,
        typer.Option(help="Upper bounds of the user groups by number of searches; users above form one more group."),
    ] = "0,5,10,20,50",
    data_path: DataPath = Path("dataset"),
    memory: Annotated[str, typer.Option(help="Memory limit of the database.")] = "2GB",
    output: Annotated[Path, typer.Option(file_okay=False, help="Folder for the result.")] = Path("analyze/stats"),
) -> None:
    """Compute a dataset's statistics: its row of Table 1 and its users by number of searches (Figure 1)."""
    borders = _borders(groups)
    with while_importing():
        from dataset_converters.statistics import collect_from_folder, print_report, write_statistics
        from recbole_gserec.settings import check_dataset, check_dataset_name

    check_dataset_name(dataset)
    check_dataset(data_path, dataset)
    found = collect_from_folder(data_path / dataset, borders, memory=memory)
    print_report(dataset, found)
    typer.echo(write_statistics(output, dataset, found))


def _borders(text: str) -> list[int]:
    try:
        borders = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise SettingError(
            f"--groups '{text}' is not a list of whole numbers. Separate them by commas: 0,5,10"
        ) from error
    if borders[0] < 0 or any(low >= high for low, high in zip(borders, borders[1:], strict=False)):
        raise SettingError(f"--groups '{text}' must be ascending numbers of at least 0")
    return borders


def tsne(
    checkpoint: Annotated[
        list[Path],
        typer.Option(
            "--checkpoint", "-c", dir_okay=False, help="Checkpoint of GSERec; repeat the option for several panels."
        ),
    ],
    users: Annotated[
        int, typer.Option(help="Maximum number of users in the plot; the numbers cover all users.")
    ] = 2000,
    codes: Annotated[bool, typer.Option("--codes/--no-codes", help="Whether to plot the codes too.")] = False,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Random seed of the user sample and of t-SNE.")
    ] = 2025,
    data_path: DataPathOfTraining = None,
    output: Annotated[Path, typer.Option(file_okay=False, help="Folder for the result.")] = Path("analyze/tsne"),
) -> None:
    """Plot the search and recommendation vectors of GSERec's users with t-SNE (Figure 6), and measure their distance.

    To compare, give one checkpoint trained with L_U-CL and one trained without it.
    """
    with while_importing():
        from recbole_gserec.analyze import analyze_tsne

    page = analyze_tsne(checkpoint, output, data_path=data_path, n_users=users, seed=seed, with_codes=codes)
    show(page)


def user(
    user: Annotated[str, typer.Argument(help="Original id of the user.")],
    checkpoint: Annotated[
        Path, typer.Option("--checkpoint", "-c", dir_okay=False, help="Checkpoint of a search-aware model.")
    ],
    without: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False, help="Checkpoint to compare with: GSERec trained with --use_user_code_graph=False."
        ),
    ] = None,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Number of recommended items.")] = 10,
    events: Annotated[int, typer.Option(min=0, help="Number of latest interactions and searches to show.")] = 20,
    data_path: DataPathOfTraining = None,
    model: ModelOfCheckpoint = None,
    output: Annotated[Path, typer.Option(file_okay=False, help="Folder for the page.")] = Path("analyze/users"),
) -> None:
    """Show one user's events, summaries, codes and recommendations, and the users who share most codes."""
    with while_importing():
        from recbole_gserec.analyze import analyze_user
        from recbole_gserec.plugin import named_model

    if model is not None:
        named_model(model)
    show(analyze_user(user, checkpoint, output, without=without, data_path=data_path, k=k, n_events=events))


def report(
    runs: Annotated[
        list[Path],
        typer.Option(
            file_okay=False,
            help="Folder of a benchmark, an ablation, a sweep or analyses; repeat the option for several.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option(dir_okay=False, help="HTML file to write.", show_default="RUNS/analyze/report.html")
    ] = None,
) -> None:
    """Write one HTML page with a benchmark's tables and figures and all analyses found. It works offline."""
    with while_importing():
        from recbole_gserec.analyze import write_html_report

    typer.echo(write_html_report(runs, output))


_COMMANDS = ("groups", "ablation", "sensitivity", "tsne", "stats", "user", "report")

app = typer.Typer(
    cls=group_of(__name__, _COMMANDS, with_settings=("ablation",)),
    help="Make the paper's figures and tables from finished runs.",
    no_args_is_help=True,
    add_completion=False,
)


@app.callback()
def analyze() -> None:
    """Make the paper's figures and tables from finished runs."""
