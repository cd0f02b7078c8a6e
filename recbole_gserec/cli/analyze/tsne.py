"""``gserec analyze tsne``: a plot of the users' search and recommendation vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recbole_gserec.cli.analyze import options
from recbole_gserec.cli.options import DataPathOfTraining
from recbole_gserec.interruptions import while_importing


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
        from recbole_gserec.analyze.tsne import analyze_tsne

    page = analyze_tsne(checkpoint, output, data_path=data_path, n_users=users, seed=seed, with_codes=codes)
    options.show(page)
