"""The offline stage from end to end: prompts, summaries, vectors, codes (Section 4.1 of GSERec).

The paper does not say what the missing summary of a user with one history is. Its authors' code uses the existing
summary for both sides.

"""

from __future__ import annotations

import logging
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from recbole_gserec.errors import DataError, SettingError
from recbole_gserec.files import remove_abandoned
from recbole_gserec.preprocess.answers import STATUSES, Summary
from recbole_gserec.preprocess.codes import codes_are_current, write_code_file
from recbole_gserec.preprocess.description import describe
from recbole_gserec.preprocess.encoders import make_encoder
from recbole_gserec.preprocess.progress import progress_bar
from recbole_gserec.preprocess.prompts import (
    SIDES,
    HistoriesWithItems,
    Prompt,
    build_prompts,
    read_template,
    template_path,
)
from recbole_gserec.preprocess.report import SideReport, save_report
from recbole_gserec.preprocess.rqvae_training import RQVAEResult, train_rqvae
from recbole_gserec.preprocess.runners import RayRunner, Runner
from recbole_gserec.preprocess.store import Store
from recbole_gserec.preprocess.summaries import make_summaries
from recbole_gserec.preprocess.summarizers import SUMMARIZERS, TemplateSummarizer
from recbole_gserec.preprocess.vectors import make_vectors, write_text_vectors
from recbole_gserec.settings import PreprocessSettings, append_suffix


def fill_missing(
    search_texts: Sequence[str | None], rec_texts: Sequence[str | None], policy: str
) -> tuple[list[str], list[str]]:
    """Give every user a text on both sides.

    Args:
        search_texts: Search summary of each user; ``None`` for a user without searches.
        rec_texts: Recommendation summary of each user; ``None`` for a user without interactions.
        policy: ``copy_rec`` copies the text of the other side, whichever it is; ``empty`` uses the empty text.
            ``no_edges`` fills as ``copy_rec``, so that all other codes stay the same; the missing side's codes are then
            left out (:func:`has_codes`).

    Returns:
        Search and recommendation texts. Both are empty for a user without any history.
    """
    if policy == "empty":
        return [text or "" for text in search_texts], [text or "" for text in rec_texts]
    pairs = list(zip(search_texts, rec_texts, strict=True))
    return (
        [(rec if search is None else search) or "" for search, rec in pairs],
        [(search if rec is None else rec) or "" for search, rec in pairs],
    )


def has_codes(texts: Sequence[str | None], policy: str) -> np.ndarray:
    """Return whether each user gets codes on a side.

    Args:
        texts: Summaries of the side before :func:`fill_missing`.
        policy: See :func:`fill_missing`.

    Returns:
        ``[n_users]`` bool.
    """
    return np.array([policy != "no_edges" or text is not None for text in texts], dtype=bool)


logger = logging.getLogger(__name__)

_MANY_FAILURES = 0.1
_SHOWN_OF_AN_ANSWER = 80


def check_parts(settings: PreprocessSettings) -> None:
    """Refuse settings of the parts and prompt templates that can be found wrong without data.

    Raises:
        SettingError: For a setting that a part does not support.
        DataError: For a prompt template that is missing or damaged.
    """
    # Both load their models on first use.
    SUMMARIZERS[settings.summarizer](settings)
    make_encoder(settings)
    settings.rqvae_settings()
    for side in SIDES:
        read_template(template_path(side, settings.prompt_language, settings.prompt_templates))


def make_codes(
    histories: HistoriesWithItems,
    item_texts: Mapping[str, str],
    output_prefix: Path,
    settings: PreprocessSettings,
    fingerprint: Mapping[str, Any],
    *,
    other_texts: Mapping[str, Mapping[str, str]] | None = None,
    validation_items: np.ndarray | None = None,
    device: str = "cpu",
    show_progress: bool = True,
) -> Path:
    """Make the codes of all users.

    Finished work is stored immediately. If interrupted at any time and called again, it continues from there and makes
    the same codes.

    Args:
        histories: The users' histories, only from the training part.
        item_texts: Text by item.
        output_prefix: ``<data_path>/<D>/<D>``; ``.code``, ``.code.json``, ``.code.png`` and ``.code.md`` are added.
        settings: Settings of the offline stage.
        fingerprint: Fingerprint of the data, stored with the codes.
        other_texts: ``item`` and ``query`` texts by id, for the setting ``text_vectors``.
        validation_items: int64 ``[n_users]``, column of each user's validation item in the histories' matrix of items;
            -1 for none. Only the report reads it, after the codes are made.
        device: Device for training the RQ-VAE.
        show_progress: Whether to show progress bars.

    Returns:
        The path of the codes. The same input gives the same bytes.

    Raises:
        SettingError: If training with these settings diverges, or no answer of the language model can be used.
        DataError: If a prompt template or the store is damaged.
        InterruptedWorkError: If the language model stopped answering.
    """
    prefix = Path(output_prefix)
    summarizer, encoder = SUMMARIZERS[settings.summarizer](settings), make_encoder(settings)
    description = describe(settings, summarizer, encoder, fingerprint)
    path = append_suffix(prefix, ".code")
    checkpoint = append_suffix(prefix, ".rqvae.pth")
    remove_abandoned(prefix.parent)
    is_current = codes_are_current(prefix, description)
    if is_current and not settings.text_vectors and not settings.retry_failed:
        return _up_to_date(path, checkpoint)
    if path.is_dir():
        raise DataError(path, "a folder, but the file of codes belongs here", "Move it away.")
    runner = _runner(settings)
    users = histories.user_tokens
    prompts = {side: build_prompts(side, histories, item_texts, settings, summarizer.shorten) for side in SIDES}
    n_prompts = " and ".join(f"{len(prompts[side]):,} {side}" for side in SIDES)
    logger.info("Summarising %s histories of %s users (%s)", n_prompts, f"{len(users):,}", summarizer.name)
    with Store(settings.preprocess_store or append_suffix(prefix, ".preprocess.sqlite3")) as store:
        asked = [prompt for side in SIDES for prompt in prompts[side]]
        # Close it even after a failure: on a GPU, the encoder or the next attempt needs the memory.
        with closing(summarizer):
            made_summaries = make_summaries(
                asked, summarizer, settings, store, runner=runner, show_progress=show_progress
            )
        _check_failures(made_summaries.summaries, settings)
        if summarizer.speaks_json:
            _warn_of_one_answer(asked, made_summaries.summaries, settings.llm)
        summaries = _by_user(asked, made_summaries.summaries, len(users))
        texts = {side: _texts(prompts[side], summaries[side], settings.failed_summary) for side in SIDES}
        counts = _count(prompts, len(users))
        logger.info(
            "%s users have no search and %s no interaction in the training part (missing_side: %s)",
            f"{counts['without_search']:,}",
            f"{counts['without_recommendation']:,}",
            settings.missing_side,
        )

        filled = fill_missing(texts["search"], texts["recommendation"], settings.missing_side)
        logger.info("Encoding the summaries (%s)", encoder.name)
        made_vectors = make_vectors(
            [*filled[0], *filled[1]],
            encoder,
            settings,
            store,
            max_length=settings.encoder_max_length,
            runner=runner,
            show_progress=show_progress,
        )
        vectors = made_vectors.vectors
        if settings.text_vectors:
            paths = write_text_vectors(
                prefix,
                settings.text_vectors,
                users,
                texts,
                other_texts or {},
                encoder,
                settings,
                store,
                description,
                runner=runner,
                show_progress=show_progress,
            )
            logger.info("Wrote %s", " and ".join(map(str, paths)))

    if is_current and not (settings.retry_failed and made_summaries.n_made):
        return _up_to_date(path, checkpoint)
    logger.info("Training the RQ-VAE on vectors of size %d for %d epochs", vectors.shape[1], settings.rq_epochs)
    result = _quantize(*_halves(vectors), settings, checkpoint, device, show_progress)

    codes = {"search": result.search_codes, "recommendation": result.rec_codes}
    coded = {side: has_codes(texts[side], settings.missing_side) for side in SIDES}
    metrics = {"search": result.metrics["search"], "recommendation": result.metrics["rec"]}
    by_user = {side: {prompt.user: prompt for prompt in prompts[side]} for side in SIDES}
    sides = {
        side: SideReport(codes[side], coded[side], metrics[side], by_user[side], summaries[side], texts[side])
        for side in SIDES
    }
    if validation_items is None:
        validation_items = np.full(len(users), -1)
    items = histories.item_matrix()
    table = save_report(
        prefix,
        users,
        sides,
        counts,
        result.history,
        settings,
        made_summaries,
        made_vectors,
        items,
        validation_items,
    )
    # Written after the report, so existing codes always have a report.
    write_code_file(
        prefix,
        users,
        codes["search"],
        codes["recommendation"],
        coded["search"],
        coded["recommendation"],
        {**description, "users": counts, "metrics": result.metrics},
    )
    checkpoint.unlink(missing_ok=True)
    logger.info("%s\n\nWrote %s", table, path)
    return path


def _up_to_date(path: Path, checkpoint: Path) -> Path:
    checkpoint.unlink(missing_ok=True)
    logger.info("%s is up to date. To make it again, delete it.", path)
    return path


def _runner(settings: PreprocessSettings) -> Runner | None:
    if not settings.preprocess_ray:
        return None
    return RayRunner(settings)


def _check_failures(summaries: Sequence[Summary], settings: PreprocessSettings) -> None:
    """Log how many answers cannot be used; raise an error if that is all of them."""
    failed = Counter(summary.status for summary in summaries if not summary.is_usable)
    n_failed = sum(failed.values())
    if not n_failed:
        return
    kinds = ", ".join(f"{count:,} {STATUSES[status]}" for status, count in failed.most_common())
    line = f"{n_failed:,} of {len(summaries):,} answers of '{settings.llm}' cannot be used: {kinds}"
    if n_failed == len(summaries):
        raise SettingError(f"{line}. Raise llm_max_tokens, change the prompt (prompt_templates), or use another model")
    level = logging.WARNING if n_failed > _MANY_FAILURES * len(summaries) else logging.INFO
    logger.log(level, "%s (failed_summary: %s)", line, settings.failed_summary)


def _warn_of_one_answer(prompts: Sequence[Prompt], summaries: Sequence[Summary], llm: str | None) -> None:
    """Log a warning if a language model gave the same summary for many different histories."""
    distinct = {(prompt.side, prompt.records): summary for prompt, summary in zip(prompts, summaries, strict=True)}
    texts = Counter(summary.text for summary in distinct.values() if summary.is_usable)
    for text, count in texts.most_common(1):
        if count > max(_MANY_FAILURES * len(distinct), 1):
            shown = textwrap.shorten(text, _SHOWN_OF_AN_ANSWER, placeholder=" ...")
            logger.warning(
                "%s of %s different prompts have the same summary from '%s': '%s'. It cannot tell their users apart. "
                "Change the prompt (prompt_templates), or use another model",
                f"{count:,}",
                f"{len(distinct):,}",
                llm,
                shown,
            )


def _by_user(prompts: Sequence[Prompt], summaries: Sequence[Summary], n_users: int) -> dict[str, list[Summary | None]]:
    by_user: dict[str, list[Summary | None]] = {side: [None] * n_users for side in SIDES}
    for prompt, summary in zip(prompts, summaries, strict=True):
        by_user[prompt.side][prompt.user] = summary
    return by_user


def _texts(prompts: Sequence[Prompt], summaries: Sequence[Summary | None], policy: str) -> list[str | None]:
    """Return the text of each user on one side; ``failed_summary`` decides what replaces a failed summary."""
    texts = [summary.text if summary and summary.is_usable else None for summary in summaries]
    if policy == "template":
        template = TemplateSummarizer()
        for prompt in prompts:
            if texts[prompt.user] is None:
                texts[prompt.user] = template.summary(prompt.records)
    return texts


def _count(prompts: Mapping[str, Sequence[Prompt]], n_users: int) -> dict[str, int]:
    search, rec = ({prompt.user for prompt in prompts[side]} for side in SIDES)
    return {
        "all": n_users,
        "without_search": n_users - len(search),
        "without_recommendation": n_users - len(rec),
        "without_either": n_users - len(search | rec),
    }


def _halves(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n_users = len(vectors) // 2
    return vectors[:n_users], vectors[n_users:]


def _quantize(
    search_vectors: np.ndarray,
    rec_vectors: np.ndarray,
    settings: PreprocessSettings,
    checkpoint: Path,
    device: str,
    show_progress: bool,
) -> RQVAEResult:
    with progress_bar(show_progress, total=settings.rq_epochs, desc="RQ-VAE", unit="epoch") as bar:

        def progress(epoch: int, total: int, losses: dict[str, float]) -> None:
            bar.set_postfix(loss=f"{losses['total']:.4f}", refresh=False)
            bar.update(epoch - bar.n)

        return train_rqvae(
            search_vectors,
            rec_vectors,
            settings.rqvae_settings(),
            device=device,
            progress=progress,
            checkpoint=checkpoint,
        )
