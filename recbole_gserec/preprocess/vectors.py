"""Vectors of texts: stored ones are reused, and others are made and stored batch by batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from recbole_gserec.errors import SettingError
from recbole_gserec.preprocess.encoders import make_encoder
from recbole_gserec.preprocess.encoders.base import TextEncoder
from recbole_gserec.preprocess.runners import LocalRunner, Runner
from recbole_gserec.preprocess.settings import PreprocessSettings, with_absolute_folders
from recbole_gserec.preprocess.store import Store, text_hash

TEXTS_PER_BATCH = 512
_TEXTS_PER_READ = 10_000


class MadeVectors(NamedTuple):
    """Vectors of texts, in their order.

    Attributes:
        vectors: ``[n, d]``, ``float32``.
        n_kept: Distinct texts whose vector was in the store.
        n_made: Distinct texts that were encoded now.
    """

    vectors: np.ndarray
    n_kept: int
    n_made: int


def make_vectors(
    texts: Sequence[str],
    encoder: TextEncoder,
    settings: PreprocessSettings,
    store: Store,
    *,
    what: str = "summaries",
    max_length: int | None = None,
    runner: Runner | None = None,
    show_progress: bool = True,
) -> MadeVectors:
    """Encode each text, or read its vector from the store.

    Equal texts are encoded once. Texts are encoded in batches of similar length. The division depends only on the
    missing texts, so an interrupted run continues with the same batches as an uninterrupted one.

    Args:
        texts: ``n`` texts, made only from the training part.
        encoder: The encoder.
        settings: Settings of the offline stage.
        store: The store, which is updated after each batch; not used by an encoder that is fitted to its texts.
        what: Name of the texts, for the progress bar.
        max_length: See :meth:`TextEncoder.encode`.
        runner: Runs the work; this process by default.
        show_progress: Whether to show a progress bar.

    Raises:
        DataError: If the store is damaged.
    """
    rows: dict[str, int] = {}
    for text in texts:
        rows.setdefault(text, len(rows))
    if encoder.is_fitted or not texts:
        return MadeVectors(encoder.encode(texts, max_length), 0, len(rows))
    maker = store.add_maker("encoder", {"name": encoder.name, **encoder.settings, "max_length": max_length})
    vectors = _Rows(len(rows))
    missing = _fill_from_store(vectors, list(rows), store, maker)
    missing.sort(key=lambda text: (len(text), text))
    batches = [missing[start : start + TEXTS_PER_BATCH] for start in range(0, len(missing), TEXTS_PER_BATCH)]
    if batches:
        make_worker = partial(VectorWorker, settings, max_length, encoder)
        if runner:
            elsewhere = with_absolute_folders(settings)
            make_worker = partial(VectorWorker, elsewhere, max_length, expected=encoder.settings)
        runner = runner or LocalRunner()
        with tqdm(
            total=len(rows),
            initial=len(rows) - len(missing),
            desc=f"Vectors of {what} ({encoder.name})",
            unit="text",
            disable=not show_progress,
        ) as bar:
            for index, made in runner.run(make_worker, batches):
                batch = batches[index]
                store.add_vectors([text_hash(text) for text in batch], made, maker)
                vectors.put([rows[text] for text in batch], made)
                bar.update(len(batch))
    n_kept, matrix = len(rows) - len(missing), vectors.matrix
    if len(rows) < len(texts):
        matrix = matrix[[rows[text] for text in texts]]
    return MadeVectors(matrix, n_kept, len(missing))


class _Rows:
    """A matrix that is allocated when its first row is known, so that vectors are never in memory twice."""

    def __init__(self, n_rows: int):
        self._n_rows, self.matrix = n_rows, np.zeros((0, 0), dtype=np.float32)

    def put(self, rows: Sequence[int], vectors: np.ndarray) -> None:
        if len(self.matrix) == 0:
            self.matrix = np.empty((self._n_rows, np.shape(vectors)[1]), dtype=np.float32)
        self.matrix[list(rows)] = vectors


def _fill_from_store(vectors: _Rows, texts: Sequence[str], store: Store, maker: str) -> list[str]:
    """Copy the stored vectors into their rows; return the texts without a stored vector."""
    missing = []
    for start in range(0, len(texts), _TEXTS_PER_READ):
        part = texts[start : start + _TEXTS_PER_READ]
        hashes = [text_hash(text) for text in part]
        found = store.vectors(hashes, maker)
        indices = [index for index, key in enumerate(hashes) if key in found]
        missing += [text for text, key in zip(part, hashes, strict=True) if key not in found]
        if indices:
            vectors.put([start + index for index in indices], np.stack([found[hashes[index]] for index in indices]))
    return missing


class VectorWorker:
    """Encodes one batch after the other.

    Args:
        settings: Settings of the offline stage.
        max_length: See :meth:`TextEncoder.encode`.
        encoder: The encoder; None creates one.
        expected: Required settings of the created encoder.

    Raises:
        SettingError: If they differ, because this machine has another model with the same name.
    """

    def __init__(
        self,
        settings: PreprocessSettings,
        max_length: int | None,
        encoder: TextEncoder | None = None,
        expected: Mapping[str, Any] | None = None,
    ):
        self.encoder, self.max_length = encoder or make_encoder(settings), max_length
        if expected is not None and self.encoder.settings != expected:
            raise SettingError(f"encoder: '{settings.encoder}' is a different model on the worker's machine")

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        return self.encoder.encode(texts, self.max_length)
