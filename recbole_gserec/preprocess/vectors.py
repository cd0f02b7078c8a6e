"""Vectors of texts: those in the store, and the others made and stored batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from recbole_gserec.preprocess.encoders import make_encoder
from recbole_gserec.preprocess.encoders.base import TextEncoder
from recbole_gserec.preprocess.runners import LocalRunner, Runner
from recbole_gserec.preprocess.settings import PreprocessSettings
from recbole_gserec.preprocess.store import Store, text_hash

TEXTS_PER_BATCH = 512


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
    """Encode each text, or take its vector from the store.

    Equal texts are encoded once. Texts are encoded in batches of similar length, whose borders depend on the missing
    texts alone: after an interruption the remaining batches are those of an uninterrupted run.

    Args:
        texts: ``n`` texts, made from the training part alone.
        encoder: Whose vectors are wanted.
        settings: Of the offline stage.
        store: Where vectors are, and are put after each batch; an encoder that is fitted to its texts does without.
        what: What the texts are, for the bar.
        max_length: See :meth:`TextEncoder.encode`.
        runner: Who does the work; this process unless given.
        show_progress: Whether to show a bar.

    Raises:
        DataError: If the store is damaged.
    """
    distinct = dict.fromkeys(texts)
    if encoder.is_fitted or not texts:
        return MadeVectors(encoder.encode(texts, max_length), 0, len(distinct))
    maker = store.add_maker("encoder", {"name": encoder.name, **encoder.settings, "max_length": max_length})
    hashes = {text: text_hash(text) for text in distinct}
    known = store.vectors(list(hashes.values()), maker)
    n_kept = len(known)
    missing = sorted((text for text in distinct if hashes[text] not in known), key=lambda text: (len(text), text))
    batches = [missing[start : start + TEXTS_PER_BATCH] for start in range(0, len(missing), TEXTS_PER_BATCH)]
    if batches:
        make_worker = partial(VectorWorker, settings, max_length, None if runner else encoder)
        runner = runner or LocalRunner()
        with tqdm(
            total=len(distinct),
            initial=n_kept,
            desc=f"Vectors of {what} ({encoder.name})",
            unit="text",
            disable=not show_progress,
        ) as bar:
            for place, vectors in runner.run(make_worker, batches):
                keys = [hashes[text] for text in batches[place]]
                store.add_vectors(keys, vectors, maker)
                known.update(zip(keys, vectors, strict=True))
                bar.update(len(keys))
    return MadeVectors(np.stack([known[hashes[text]] for text in texts]), n_kept, len(missing))


class VectorWorker:
    """Encodes one batch after the other."""

    def __init__(self, settings: PreprocessSettings, max_length: int | None, encoder: TextEncoder | None = None):
        self.encoder, self.max_length = encoder or make_encoder(settings), max_length

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        return self.encoder.encode(texts, self.max_length)
