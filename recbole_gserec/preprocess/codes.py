"""The code file ``<D>.code``, the record ``<D>.code.json`` beside it, and codes made with other settings."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recbole_gserec.errors import DataError
from recbole_gserec.files import read_json, sha256_of_file, write_json, written_aside
from recbole_gserec.settings import OPERATIONAL, PreprocessSettings, append_suffix, dataset_settings

logger = logging.getLogger(__name__)

HEADER = "code_user_id:token\tsearch_codes:token_seq\trec_codes:token_seq"


def code_names(codes: np.ndarray, side: str, coded: np.ndarray) -> list[str]:
    """Write codes as tokens such as ``s1_17``: side, level counted from 1, index.

    Names of different sides and levels differ, because their codes are entries of different codebooks.

    Args:
        codes: int64 ``[n_users, L]``.
        side: ``s`` or ``r``.
        coded: bool ``[n_users]``; a user with False has no codes.

    Returns:
        The cell of each user.
    """
    cells = []
    for row, has_codes in zip(codes.tolist(), coded.tolist(), strict=True):
        names = (f"{side}{level}_{index}" for level, index in enumerate(row, start=1))
        cells.append(" ".join(names) if has_codes else "")
    return cells


def codes_are_current(prefix: Path, description: Mapping[str, Any]) -> bool:
    """Return whether codes with this provenance exist, complete and with their report.

    Args:
        prefix: ``<data_path>/<D>/<D>``.
        description: See :func:`.description.describe`.
    """
    paths = [append_suffix(prefix, suffix) for suffix in (".code", ".code.json", ".code.md", ".code.png")]
    if not all(path.is_file() for path in paths):
        return False
    try:
        made = read_json(paths[1], "They are made again")
        # As JSON returns it: tuples become lists.
        wanted = json.loads(json.dumps(description))
        is_same = all(made.get(part) == wanted[part] for part in wanted.keys() - {"made", "libraries"})
        if is_same and made["code_sha256"] != sha256_of_file(paths[0]):
            raise DataError(paths[0], f"not the codes described in {paths[1].name}", "They are made again")
        return is_same
    except DataError as error:
        logger.warning(str(error))
    except KeyError:
        pass
    return False


def write_code_file(
    prefix: Path,
    users: Sequence[str],
    search_codes: np.ndarray,
    rec_codes: np.ndarray,
    search_coded: np.ndarray,
    rec_coded: np.ndarray,
    description: Mapping[str, Any],
) -> Path:
    """Write ``<prefix>.code.json``, then ``<prefix>.code``.

    The description is written first and contains the hash of the codes, so a reader notices codes that it does not
    describe.

    Args:
        prefix: ``<data_path>/<D>/<D>``.
        users: Original ids.
        search_codes: int64 ``[n_users, L]``.
        rec_codes: int64 ``[n_users, L]``.
        search_coded: bool ``[n_users]``, which users have search codes.
        rec_coded: bool ``[n_users]``, which users have recommendation codes.
        description: See :func:`.description.describe`; further entries about the codes are kept too.

    Returns:
        The path of the codes.
    """
    cells = zip(users, code_names(search_codes, "s", search_coded), code_names(rec_codes, "r", rec_coded), strict=True)
    content = ("\n".join([HEADER, *map("\t".join, cells)]) + "\n").encode()
    path = append_suffix(prefix, ".code")
    description = {**description, "code_sha256": hashlib.sha256(content).hexdigest()}
    write_json(append_suffix(prefix, ".code.json"), description)
    with written_aside(path) as temporary:
        temporary.write_bytes(content)
    return path


class CodeRecord(NamedTuple):
    """What the codes depend on.

    Attributes:
        settings: Settings of the offline stage that affect codes.
        summarizer: ``name`` and ``settings`` of the summarizer.
    """

    settings: dict[str, Any]
    summarizer: dict[str, Any]

    def non_default_settings(self, dataset: str) -> dict[str, Any]:
        """Return the settings that differ from the defaults for this dataset."""
        usual = {**_default_settings(), **dataset_settings(dataset)}
        return {name: value for name, value in self.settings.items() if usual[name] != value}


def read_code_record(code_file: Path, advice: str) -> CodeRecord:
    """Read ``<D>.code.json``.

    Args:
        code_file: The codes next to the record.
        advice: Advice if the record cannot be read.

    Raises:
        DataError: If it is missing, damaged, or from a version with other settings.
    """
    path = code_file.with_name(code_file.name + ".json")
    try:
        made = read_json(path, advice)
        summarizer = {"name": str(made["summarizer"]["name"]), "settings": dict(made["summarizer"]["settings"])}
        # A file may not decide which server is asked or where files are written.
        deciding = {name: value for name, value in made["settings"].items() if name not in OPERATIONAL}
        record = CodeRecord(deciding, summarizer)
    except FileNotFoundError as error:
        raise DataError(path, "file not found: it is not known how the codes were made", advice) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(path, "damaged: it does not say how the codes were made", advice) from error
    if unknown := sorted(record.settings.keys() - _default_settings().keys()):
        raise DataError(path, f"the codes were made by another version, with the setting '{unknown[0]}'", advice)
    return record


def _default_settings() -> dict[str, Any]:
    """Return the defaults of the offline stage, as JSON returns them."""
    return PreprocessSettings().model_dump(mode="json")


def other_codes(folder: Path, data_path: Path, dataset: str, deciding: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings for the paths of such codes, and of the store that they share.

    Args:
        folder: Folder of what uses them; each set of settings has its own file in the folder ``codes``.
        data_path: Absolute path of the parent folder of all datasets.
        dataset: Name of the dataset.
        deciding: The settings that affect the codes, as JSON values.
    """
    key = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:10]
    return {
        "code_path": str(folder / "codes" / f"{dataset}-{key}.code"),
        "preprocess_store": f"{data_path / dataset / dataset}.preprocess.sqlite3",
    }
