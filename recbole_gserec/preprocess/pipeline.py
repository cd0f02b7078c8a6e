"""The offline stage from end to end: prompts, summaries, vectors, codes (Section 4.1 of GSERec)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from recbole_gserec.preprocess.code_file import describe, write_code_file
from recbole_gserec.preprocess.encoders import ENCODERS
from recbole_gserec.preprocess.missing_side import fill_missing, has_codes
from recbole_gserec.preprocess.prompts import SIDES, Histories, Prompt, build_prompts
from recbole_gserec.preprocess.report import SideReport, save_report
from recbole_gserec.preprocess.settings import PreprocessSettings
from recbole_gserec.preprocess.summarizers import SUMMARIZERS

if TYPE_CHECKING:
    import numpy as np

    from recbole_gserec.preprocess.rqvae_training import RQVAEResult

logger = logging.getLogger(__name__)


def make_codes(
    histories: Histories,
    item_texts: Mapping[str, str],
    output_prefix: Path,
    settings: PreprocessSettings,
    fingerprint: Mapping[str, Any],
    *,
    show_progress: bool = True,
) -> Path:
    """Make the codes of all users.

    Args:
        histories: The users' histories, the training part alone.
        item_texts: Text by item.
        output_prefix: ``<data_path>/<D>/<D>``; ``.code``, ``.code.json``, ``.code.png`` and ``.code.md`` are added.
        settings: Of the offline stage.
        fingerprint: Of the data; it is kept beside the codes.
        show_progress: Whether to show a bar while the RQ-VAE trains.

    Returns:
        The path of the codes. The same input gives the same bytes.

    Raises:
        SettingError: If training with these settings diverges.
        DataError: If a prompt template is damaged.
    """
    output_prefix = Path(output_prefix)
    summarizer, encoder = SUMMARIZERS[settings.summarizer](settings), ENCODERS[settings.encoder](settings)
    n_users = len(histories.user_tokens)

    prompts = {side: build_prompts(side, histories, item_texts, settings) for side in SIDES}
    n_prompts = " and ".join(f"{len(prompts[side]):,} {side}" for side in SIDES)
    logger.info("Summarising %s histories of %s users (%s)", n_prompts, f"{n_users:,}", summarizer.name)
    texts = {side: _by_user(prompts[side], summarizer.summarize(prompts[side]), n_users) for side in SIDES}
    users = _count(texts["search"], texts["recommendation"])
    logger.info(
        "%s users have no search and %s no interaction in the training part (missing_side: %s)",
        f"{users['without_search']:,}",
        f"{users['without_recommendation']:,}",
        settings.missing_side,
    )

    search_texts, rec_texts = fill_missing(texts["search"], texts["recommendation"], settings.missing_side)
    logger.info("Encoding the summaries (%s)", encoder.name)
    vectors = encoder.encode([*search_texts, *rec_texts])
    logger.info("Training the RQ-VAE on vectors of size %d for %d epochs", vectors.shape[1], settings.rq_epochs)
    result = _quantize(vectors[:n_users], vectors[n_users:], settings, show_progress)

    codes = {"search": result.search_codes, "recommendation": result.rec_codes}
    coded = {side: has_codes(texts[side], settings.missing_side) for side in SIDES}
    path = write_code_file(
        output_prefix,
        histories.user_tokens,
        *(codes[side] for side in SIDES),
        *(coded[side] for side in SIDES),
        describe(settings, summarizer, encoder, fingerprint, result.metrics, users),
    )
    metrics = {"search": result.metrics["search"], "recommendation": result.metrics["rec"]}
    by_user = {side: {prompt.user: prompt for prompt in prompts[side]} for side in SIDES}
    sides = {side: SideReport(codes[side], coded[side], metrics[side], by_user[side], texts[side]) for side in SIDES}
    table = save_report(output_prefix, histories.user_tokens, sides, users, result.history, settings)
    logger.info("%s\n\nWrote %s", table, path)
    return path


def _by_user(prompts: Sequence[Prompt], summaries: Sequence[str], n_users: int) -> list[str | None]:
    texts: list[str | None] = [None] * n_users
    for prompt, summary in zip(prompts, summaries, strict=True):
        texts[prompt.user] = summary
    return texts


def _count(search_texts: Sequence[str | None], rec_texts: Sequence[str | None]) -> dict[str, int]:
    pairs = list(zip(search_texts, rec_texts, strict=True))
    return {
        "all": len(pairs),
        "without_search": sum(search is None for search, _ in pairs),
        "without_recommendation": sum(rec is None for _, rec in pairs),
        "without_either": sum(search is None and rec is None for search, rec in pairs),
    }


def _quantize(
    search_vectors: np.ndarray, rec_vectors: np.ndarray, settings: PreprocessSettings, show_progress: bool
) -> RQVAEResult:
    # Imported here, since it loads torch.
    from recbole_gserec.preprocess.rqvae_training import train_rqvae

    with tqdm(total=settings.rq_epochs, desc="RQ-VAE", unit="epoch", disable=not show_progress) as bar:

        def progress(epoch: int, total: int, losses: dict[str, float]) -> None:
            bar.set_postfix(loss=f"{losses['total']:.4f}", refresh=False)
            bar.update()

        return train_rqvae(search_vectors, rec_vectors, settings.rqvae_settings(), progress=progress)
