"""``gserec export``: write the vectors of a trained model, or its rankings."""

from pathlib import Path
from typing import Annotated

import typer

from recbole_gserec.cli.options import DataPathOfTraining, ModelOfCheckpoint
from recbole_gserec.compute import while_importing
from recbole_gserec.errors import SettingError

_DEPTH = 1000


def export(
    checkpoint: Annotated[
        Path, typer.Option("--checkpoint", "-c", dir_okay=False, help="Checkpoint of a trained model.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write; it must be new or empty.")],
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="File format: parquet, or npy (arrays, and CSV files with the id of each row).",
            show_default="parquet",
        ),
    ] = None,
    trec: Annotated[
        bool,
        typer.Option("--trec", help="Write the rankings of validation and test as TREC files (qrels and run) instead."),
    ] = False,
    depth: Annotated[
        int | None, typer.Option(min=1, help="Items of each ranking, with --trec.", show_default=str(_DEPTH))
    ] = None,
    data_path: DataPathOfTraining = None,
    model: ModelOfCheckpoint = None,
) -> None:
    """Write a trained model's vectors of users, items and codes with their original ids, for use in other systems.

    If the model scores by dot products, the products of the user and item vectors are its scores.

    With --trec, write what the model ranked in its validation and test, for trec_eval, ranx and other programs.
    """
    with while_importing():
        from recbole_gserec.plugin import named_model
        from recbole_gserec.recommend import (
            check_export,
            describe_provenance,
            export_vectors,
            load_evaluation,
            load_trained,
            write_export,
            write_trec_files,
        )

    if model is not None:
        named_model(model)
    check_export(out, file_format or "parquet")
    if trec and file_format is not None:
        raise SettingError("--format is for vectors; with --trec it has no meaning")
    if depth is not None and not trec:
        raise SettingError("--depth is for rankings; it needs --trec")
    if trec:
        evaluation = load_evaluation(checkpoint, data_path)
        for part, made in write_trec_files(out, evaluation, depth or _DEPTH, describe_provenance(evaluation)).items():
            metrics = ", ".join(f"{name} {value:.4f}" for name, value in made["metrics"].items())
            typer.echo(f"{out / part}.run: {made['topics']:,} rankings; {metrics}")
            if made["tied"]:
                tied = f"{made['tied']:,} targets have the same score as another candidate"
                typer.echo(f"{out / part}.run: {tied}: other programs may rank them better", err=True)
        return
    trained = load_trained(checkpoint, data_path)
    exported = export_vectors(trained)
    write_export(out, exported, file_format or "parquet", describe_provenance(trained))
    for table in exported.tables:
        n, size = table.values.shape
        typer.echo(f"{out / table.name}: {n:,} vectors of {size} numbers, {table.meaning}")
    if exported.score is None:
        typer.echo(f"{trained.config['model']} does not score by dot products of vectors of users and items")
