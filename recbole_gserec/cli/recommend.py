"""``gserec recommend``: the top K items of a trained model."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from recbole_gserec.cli.options import DataPathOfTraining, ModelOfCheckpoint
from recbole_gserec.compute import while_importing


def recommend(
    checkpoint: Annotated[
        Path, typer.Option("--checkpoint", "-c", dir_okay=False, help="Checkpoint of a trained model.")
    ],
    user: Annotated[
        list[str] | None, typer.Option("--user", "-u", help="Original id of a user; repeat the option for several.")
    ] = None,
    users: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Text file with one original user id per line.")
    ] = None,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Number of items for each user.")] = 10,
    exclude_seen: Annotated[
        bool,
        typer.Option(
            "--exclude-seen/--include-seen",
            help="Leave out items that the user interacted with or clicked in a search.",
        ),
    ] = True,
    all_items: Annotated[
        bool,
        typer.Option(
            "--all-items", help="Also recommend items without interactions, such as those only clicked in searches."
        ),
    ] = False,
    new_interactions: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="File of interactions after the training, with the columns of .inter."
        ),
    ] = None,
    new_searches: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="File of searches after the training, with the columns of .search."
        ),
    ] = None,
    new_queries: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="File with the words of their queries, with the columns of .query."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False, help="File to write: .parquet, .csv or .jsonl.", show_default="CSV on standard output"
        ),
    ] = None,
    data_path: DataPathOfTraining = None,
    model: ModelOfCheckpoint = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Number of users at once; reduced automatically to save memory.", show_default="256"),
    ] = None,
    retrieve: Annotated[
        int,
        typer.Option(
            min=0,
            help="Retrieve this many items for each user by the model's next-item head, and rank only these; much "
            "faster with many items.",
            show_default="0: rank all items",
        ),
    ] = 0,
    recall_users: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="With --retrieve: rank all items for a sample of this many users, to measure how many of the best "
            "items are retrieved; 0 for no sample.",
            show_default="100",
        ),
    ] = None,
) -> None:
    """Recommend the best items to users, from a checkpoint of any model of this package or of RecBole.

    The model sees all events of the dataset, including those of the validation and test parts, and predicts the next
    items. You can add new events of users without training again.
    """
    with while_importing():
        from recbole_gserec.plugin import named_model
        from recbole_gserec.recommend import check_output, read_user_list

    if model is not None:
        named_model(model)
    if out is not None:
        check_output(out)
    names = None
    if user or users:
        names = [*(user or []), *(read_user_list(users) if users else [])]

    with while_importing():
        from recbole_gserec.recommend import (
            RECALL_USERS,
            USERS_AT_ONCE,
            Request,
            recommend_to_file,
            recommend_to_stream,
        )

    request = Request(
        checkpoint,
        data_path,
        names,
        k,
        exclude_seen,
        all_items,
        new_interactions,
        new_searches,
        new_queries,
        batch_size or USERS_AT_ONCE,
        retrieve,
        RECALL_USERS if recall_users is None else recall_users,
    )
    if out is None:
        recommend_to_stream(request, sys.stdout)
    else:
        n_rows = recommend_to_file(request, out)
        typer.echo(f"{out}: {n_rows:,} recommendations")
