"""Texts of items, for the prompts."""

from __future__ import annotations

import logging
from pathlib import Path

from recbole_gserec.data.atomic_files import field_types, read_columns

logger = logging.getLogger(__name__)


def read_item_texts(
    path: str | Path, *, item_field: str = "item_id", separator: str = "\t", encoding: str = "utf-8"
) -> dict[str, str]:
    """Join the text columns (``token`` and ``token_seq``) of an ``.item`` file, titles first.

    Args:
        path: The file. If it is missing, no item has a text, and prompts name items by their ids.
        item_field: The column of item ids.
        separator: Separator between columns.
        encoding: Encoding of the text.

    Returns:
        Text by item, if it has one. If an item occurs twice in the file, its first row counts.

    Raises:
        DataError: If the file is malformed.
    """
    path = Path(path)
    if not path.is_file():
        logger.warning("%s is missing: prompts name items by their ids.", path)
        return {}
    types = field_types(path, separator=separator, encoding=encoding)
    columns = [name for name, kind in types.items() if kind.startswith("token") and name != item_field]
    columns.sort(key=lambda name: "title" not in name.lower())
    # The reader raises an error with the file's name if there is no id column.
    table = read_columns(path, [item_field, *columns], separator=separator, encoding=encoding, required=[item_field])
    texts: dict[str, str] = {}
    for item, *parts in zip(*(table[name].to_pylist() for name in [item_field, *columns]), strict=True):
        text = "; ".join(part for part in map(str.strip, parts) if part)
        if text:
            texts.setdefault(item, text)
    return texts
