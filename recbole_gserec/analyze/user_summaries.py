"""The summaries from which one user's codes were made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from recbole_gserec.data.training_histories import SearchRecord, TrainingHistories
from recbole_gserec.errors import GSERecError
from recbole_gserec.narrowing import not_none
from recbole_gserec.preprocess.code_record import read_code_record
from recbole_gserec.preprocess.prompts import SIDES, build_prompts
from recbole_gserec.preprocess.settings import PreprocessSettings
from recbole_gserec.preprocess.store import Store, maker_hash, text_hash
from recbole_gserec.preprocess.summarizers import SUMMARIZERS


class _OneUser:
    """The histories of a single user, in the form needed to build prompts."""

    def __init__(self, histories: TrainingHistories, index: int):
        self._histories, self._index = histories, index
        self.user_tokens = [histories.user_tokens[index]]

    def recommendation_history(self, user: int, n: int) -> list[str]:
        return self._histories.recommendation_history(self._index, n)

    def search_history(self, user: int, n: int) -> list[SearchRecord]:
        return self._histories.search_history(self._index, n)


def find_summaries(
    code_file: Path, store_file: Path, histories: TrainingHistories, index: int, item_texts: Mapping[str, str]
) -> dict[str, str]:
    """Return, for each side of a user, the summary or the reason why it is missing.

    Args:
        code_file: The ``.code`` file; its record is stored next to it.
        store_file: Store of the offline stage.
        histories: Histories of all users.
        index: Index of the user in the histories.
        item_texts: Text by item.
    """
    try:
        made = read_code_record(code_file, "Make the codes again by gserec preprocess")
        settings = PreprocessSettings(**{**made.settings, **_needed(made.settings)})
        summarizer = SUMMARIZERS[settings.summarizer](settings)
        # Prompts are truncated as before, which needs the language model's tokenizer.
        prompts = {
            side: build_prompts(side, _OneUser(histories, index), item_texts, settings, summarizer.shorten)
            for side in SIDES
        }
    except GSERecError as error:
        return dict.fromkeys(SIDES, f"not known: {error}")
    maker = maker_hash({"name": made.summarizer["name"], **made.summarizer["settings"]})
    found = {}
    for side in SIDES:
        if not prompts[side]:
            found[side] = f"none: no {side} history in the training part (missing_side: {settings.missing_side})"
        elif settings.summarizer == "template":
            found[side] = not_none(summarizer.complete(prompts[side], 1)[0]).text
        else:
            found[side] = _stored(store_file, prompts[side][0].text, maker)
    return found


def _needed(settings: Mapping[str, object]) -> dict[str, str]:
    """Return arguments that a summarizer requires but that are not stored, because they do not affect the result."""
    return {"llm_base_url": "http://localhost"} if settings.get("summarizer") == "openai" else {}


def _stored(path: Path, prompt: str, maker: str) -> str:
    if not path.is_file():
        return f"not known: the store {path.name} is missing"
    key = text_hash(prompt)
    with Store(path) as store:
        summary = store.summaries([key], maker).get(key)
    if summary is None:
        return f"not known: not in the store {path.name}"
    return (
        summary.text if summary.is_usable else f"none: the language model's answer could not be used ({summary.status})"
    )
