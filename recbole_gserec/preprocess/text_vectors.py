"""Writes vectors of users' summaries, items and queries to files, for models that read them."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from recbole_gserec.data.dataset_paths import append_suffix
from recbole_gserec.files import scratch_folder
from recbole_gserec.preprocess.encoders.base import TextEncoder
from recbole_gserec.preprocess.runners import Runner
from recbole_gserec.preprocess.settings import PreprocessSettings
from recbole_gserec.preprocess.store import Store
from recbole_gserec.preprocess.vector_files import write_vectors
from recbole_gserec.preprocess.vectors import make_vectors

RECORDS = {"search": "query", "recommendation": "item"}
"""Side -> content of its histories."""


def vectors_path(prefix: Path, kind: str) -> Path:
    """Return the file of the vectors of users, items or queries (``user``, ``item`` or ``query``)."""
    return append_suffix(prefix, f".{kind}.vectors.parquet")


def write_text_vectors(
    prefix: Path,
    kinds: Collection[str],
    users: Sequence[str],
    summaries: Mapping[str, Sequence[str | None]],
    records: Mapping[str, Mapping[str, str]],
    encoder: TextEncoder,
    settings: PreprocessSettings,
    store: Store,
    description: Mapping[str, Any],
    *,
    runner: Runner | None = None,
    show_progress: bool = True,
) -> list[Path]:
    """Encode texts and write ``<prefix>.<kind>.vectors.parquet`` for each requested kind.

    A user's vector on a side comes only from the summary of that side, whatever replaces a missing one for codes. If
    there is no text, the vector is zero.

    An encoder that learns from its texts learns from one side at a time: from recommendation summaries and items, and
    from search summaries and queries. The vectors of a side thus share one space and do not depend on the requested
    kinds, and those of recommendation contain no information from searches.

    Args:
        prefix: ``<data_path>/<D>/<D>``.
        kinds: Some of ``user``, ``item`` and ``query``.
        users: ``n`` ids.
        summaries: ``search``, ``recommendation`` or both: each user's summary, ``None`` if a user has none.
        records: ``item`` and ``query``: text by id.
        encoder: The encoder.
        settings: Settings of the offline stage.
        store: The store of vectors.
        description: Provenance, stored in the files.
        runner: Runs the work.
        show_progress: Whether to show progress bars.

    Returns:
        The files.
    """
    make = partial(
        make_vectors, encoder=encoder, settings=settings, store=store, runner=runner, show_progress=show_progress
    )
    lengths = {"item": settings.encoder_item_length, "query": settings.encoder_query_length}
    of_users: dict[str, np.ndarray] = {}
    of_records: dict[str, np.ndarray] = {}
    for side, summaries_of_side in summaries.items():
        kind = RECORDS[side]
        own, others = [text or "" for text in summaries_of_side], list(records.get(kind, {}).values())
        wants_own, wants_others = "user" in kinds, kind in kinds and kind in records
        if encoder.is_fitted and (wants_own or wants_others):
            made = make([*own, *others], what=f"the {side} side")
            own_vectors, other_vectors = np.split(made.vectors, [len(own)])
            of_users |= {side: own_vectors} if wants_own else {}
            of_records |= {kind: other_vectors} if wants_others else {}
            continue
        if wants_own:
            made = make(own, what=f"{side} summaries", max_length=settings.encoder_max_length)
            of_users[side] = made.vectors
        if wants_others:
            of_records[kind] = make(others, what=f"texts ({kind})", max_length=lengths[kind]).vectors
    description = {**description, "settings": settings.deciding_vectors()}
    paths = [vectors_path(prefix, kind) for kind in of_records] + [vectors_path(prefix, "user")] * bool(of_users)
    # The files appear together: they are moved into place when all are written.
    with scratch_folder(prefix.parent, prefix.name) as aside:
        for kind, vectors in of_records.items():
            write_vectors(aside / vectors_path(prefix, kind).name, list(records[kind]), {"text": vectors}, description)
        if of_users:
            write_vectors(aside / vectors_path(prefix, "user").name, users, of_users, description)
        for path in paths:
            os.replace(aside / path.name, path)
    return paths
