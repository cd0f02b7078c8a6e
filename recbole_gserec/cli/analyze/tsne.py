"""``gserec analyze tsne``: the two sides' user vectors in a plane."""

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
        typer.Option("--checkpoint", "-c", dir_okay=False, help="Checkpoint of GSERec; a panel for each given."),
    ],
    users: Annotated[int, typer.Option(help="Most users drawn; the numbers are of all.")] = 2000,
    codes: Annotated[bool, typer.Option("--codes/--no-codes", help="Whether codes are drawn too.")] = False,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the sample and of t-SNE.")] = 2025,
    data_path: DataPathOfTraining = None,
    output: Annotated[Path, typer.Option(file_okay=False, help="Folder of the result.")] = Path("analyze/tsne"),
) -> None:
    """Draw the search and the recommendation vectors of GSERec's users by t-SNE (Figure 6), and measure them.

    Give checkpoints trained with and without L_U-CL to compare them.
    """
    with while_importing():
        from recbole_gserec.analyze.tsne import analyze_tsne

    page = analyze_tsne(checkpoint, output, data_path=data_path, n_users=users, seed=seed, with_codes=codes)
    options.show(page)
