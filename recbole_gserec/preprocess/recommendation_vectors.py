"""Vectors of recommendation summaries and of items, for models without searches; no codes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from recbole_gserec.data.dataset_paths import append_suffix
from recbole_gserec.preprocess.description import describe
from recbole_gserec.preprocess.encoders import make_encoder
from recbole_gserec.preprocess.prompts import Histories, build_prompts
from recbole_gserec.preprocess.settings import PreprocessSettings
from recbole_gserec.preprocess.store import Store
from recbole_gserec.preprocess.summaries import make_summaries
from recbole_gserec.preprocess.summarizers import SUMMARIZERS
from recbole_gserec.preprocess.text_vectors import write_text_vectors

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
