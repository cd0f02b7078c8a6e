"""Vectors of users' summaries, of items and of queries, written to files for models that read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_gserec.preprocess.code_file import beside
from recbole_gserec.preprocess.encoders.base import TextEncoder
from recbole_gserec.preprocess.runners import Runner
from recbole_gserec.preprocess.settings import PreprocessSettings
from recbole_gserec.preprocess.store import Store
from recbole_gserec.preprocess.vector_files import write_vectors
from recbole_gserec.preprocess.vectors import make_vectors


def write_user_vectors(
    prefix: Path, users: Sequence[str], search: np.ndarray, recommendation: np.ndarray, description: Mapping[str, Any]
) -> Path:
    """Write ``<prefix>.user.vectors.parquet``: each user's two vectors, ``[n, d]`` each."""
    path = beside(prefix, ".user.vectors.parquet")
    write_vectors(path, users, {"search": search, "recommendation": recommendation}, dict(description))
    return path


def write_text_vectors(
    prefix: Path,
    texts: Mapping[str, Mapping[str, str]],
    encoder: TextEncoder,
    settings: PreprocessSettings,
    store: Store,
    description: Mapping[str, Any],
    *,
    runner: Runner | None = None,
    show_progress: bool = True,
) -> list[Path]:
    """Encode texts and write ``<prefix>.item.vectors.parquet`` and ``<prefix>.query.vectors.parquet``.

    Args:
        prefix: ``<data_path>/<D>/<D>``.
        texts: ``item`` and ``query``, or one of them: text by id. An empty text has the zero vector.
        encoder: One that learns from its texts is given all of them at once, so that their vectors are of one space.
        settings: Of the offline stage.
        store: Where vectors are kept.
        description: Of how they were made; it is kept in the files.
        runner: Who does the work.
        show_progress: Whether to show bars.

    Returns:
        The files.
    """
    lengths = {"item": settings.encoder_item_length, "query": settings.encoder_query_length}
    options = {"runner": runner, "show_progress": show_progress}
    if encoder.is_fitted:
        together = [text for part in texts.values() for text in part.values()]
        vectors = make_vectors(together, encoder, settings, store, what="items and queries", **options).vectors
        ends = np.cumsum([len(part) for part in texts.values()])[:-1]
        by_kind = dict(zip(texts, np.split(vectors, ends), strict=True))
    else:
        by_kind = {
            kind: make_vectors(
                list(part.values()), encoder, settings, store, what=kind, max_length=lengths[kind], **options
            ).vectors
            for kind, part in texts.items()
        }
    paths = []
    for kind, vectors in by_kind.items():
        paths.append(beside(prefix, f".{kind}.vectors.parquet"))
        write_vectors(paths[-1], list(texts[kind]), {"text": vectors}, dict(description))
    return paths
