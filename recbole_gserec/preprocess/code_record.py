"""How a dataset's codes were made, from the record next to them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from recbole_gserec.errors import DataError
from recbole_gserec.json_files import read_json
from recbole_gserec.preprocess.settings import OPERATIONAL, PreprocessSettings
from recbole_gserec.properties_files import dataset_settings


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


def read_code_record(code_file: Path, remedy: str) -> CodeRecord:
    """Read ``<D>.code.json``.

    Args:
        code_file: The codes next to the record.
        remedy: Advice if the record cannot be read.

    Raises:
        DataError: If it is missing, damaged, or from a version with other settings.
    """
    path = code_file.with_name(code_file.name + ".json")
    try:
        made = read_json(path, remedy)
        summarizer = {"name": str(made["summarizer"]["name"]), "settings": dict(made["summarizer"]["settings"])}
        # A file may not decide which server is asked or where files are written.
        deciding = {name: value for name, value in made["settings"].items() if name not in OPERATIONAL}
        record = CodeRecord(deciding, summarizer)
    except FileNotFoundError as error:
        raise DataError(path, "file not found: it is not known how the codes were made", remedy) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(path, "damaged: it does not say how the codes were made", remedy) from error
    if unknown := sorted(record.settings.keys() - _default_settings().keys()):
        raise DataError(path, f"the codes were made by another version, with the setting '{unknown[0]}'", remedy)
    return record


def _default_settings() -> dict[str, Any]:
    """Return the defaults of the offline stage, as JSON returns them."""
    return json.loads(json.dumps(asdict(PreprocessSettings())))
