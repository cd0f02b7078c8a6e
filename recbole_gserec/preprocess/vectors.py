"""Vectors of summaries, items and queries: stored ones are reused, others are made and stored batch by batch."""

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recbole_gserec.errors import SettingError
from recbole_gserec.files import scratch_folder
from recbole_gserec.preprocess.description import describe
from recbole_gserec.preprocess.encoders import TextEncoder, make_encoder
from recbole_gserec.preprocess.progress import progress_bar
from recbole_gserec.preprocess.prompts import Histories, build_prompts
from recbole_gserec.preprocess.runners import LocalRunner, Runner
from recbole_gserec.preprocess.store import Store, text_hash
from recbole_gserec.preprocess.summaries import make_summaries
from recbole_gserec.preprocess.summarizers import SUMMARIZERS
from recbole_gserec.preprocess.vector_files import write_vectors
from recbole_gserec.settings import PreprocessSettings, append_suffix, with_absolute_folders

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
        with progress_bar(
            show_progress,
            total=len(rows),
            initial=len(rows) - len(missing),
            desc=f"Vectors of {what} ({encoder.name})",
            unit="text",
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


logger = logging.getLogger(__name__)

SIDE = "recommendation"


def make_recommendation_vectors(
    histories: Histories,
    item_texts: Mapping[str, str],
    records: Mapping[str, Mapping[str, str]],
    output_prefix: Path,
    settings: PreprocessSettings,
    fingerprint: Mapping[str, Any],
    *,
    show_progress: bool = True,
) -> list[Path]:
    """Write the vectors of items, and those of users with only the recommendation side.

    With the summarizer ``template``, which never fails, they equal those of the whole stage, because the summaries are
    the same.

    Args:
        histories: The users' histories, only from the training part.
        item_texts: Text by item, for the prompts.
        records: ``item``: text by id, for all items that need a vector.
        output_prefix: ``<data_path>/<D>/<D>``.
        settings: Settings of the offline stage.
        fingerprint: Fingerprint of the data, stored in the files.
        show_progress: Whether to show progress bars.

    Returns:
        The files. The same input gives the same vectors.
    """
    prefix, users = Path(output_prefix), histories.user_tokens
    summarizer, encoder = SUMMARIZERS[settings.summarizer](settings), make_encoder(settings)
    description = describe(settings, summarizer, encoder, fingerprint)
    prompts = build_prompts(SIDE, histories, item_texts, settings, summarizer.shorten)
    logger.info("Summarising %s %s histories (%s)", f"{len(prompts):,}", SIDE, summarizer.name)
    with Store(settings.preprocess_store or append_suffix(prefix, ".preprocess.sqlite3")) as store:
        with closing(summarizer):
            made = make_summaries(prompts, summarizer, settings, store, show_progress=show_progress)
        texts: list[str | None] = [None] * len(users)
        for prompt, summary in zip(prompts, made.summaries, strict=True):
            texts[prompt.user] = summary.text
        paths = write_text_vectors(
            prefix,
            ("user", "item"),
            users,
            {SIDE: texts},
            records,
            encoder,
            settings,
            store,
            description,
            show_progress=show_progress,
        )
    logger.info("Wrote %s", " and ".join(map(str, paths)))
    return paths
