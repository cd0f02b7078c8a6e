"""``gserec analyze user``: a readable page about one user."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recbole_gserec.cli.analyze import options
from recbole_gserec.cli.options import DataPathOfTraining, ModelOfCheckpoint
from recbole_gserec.interruptions import while_importing


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
        from recbole_gserec.analyze.user import analyze_user
        from recbole_gserec.model_files import named_model

    if model is not None:
        named_model(model)
    options.show(analyze_user(user, checkpoint, output, without=without, data_path=data_path, k=k, n_events=events))
