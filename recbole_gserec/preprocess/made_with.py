"""The provenance of a file of the offline stage, and whether it matches the requested settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from recbole.config import Config

from recbole_gserec.data.fingerprint import check_fingerprint
from recbole_gserec.errors import DataError
from recbole_gserec.preprocess.settings import PreprocessSettings
from recbole_gserec.properties_files import preprocess_settings


class Provenance(NamedTuple):
    """What such a file depends on.

    Attributes:
        fingerprint: Fingerprint of the data; see :func:`recbole_gserec.data.fingerprint.dataset_fingerprint`.
        settings: Settings of the offline stage, as JSON values.
    """

    fingerprint: Mapping[str, Any]
    settings: Mapping[str, Any]

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> Provenance:
        """Read it from the description that is stored with the file.

        Raises:
            ValueError, KeyError, TypeError: If it is not in there.
        """
        parts = {part: dict(description["fingerprint"][part]) for part in ("files", "settings")}
        return cls(parts, dict(description["settings"]))

    def check(self, now: Mapping[str, Any], config: Config, path: str | Path, remedy: str) -> None:
        """Refuse a file from other data, or made with settings other than the requested ones.

        Args:
            now: Fingerprint of the current dataset.
            config: RecBole's settings; its ``external_config_dict`` shows which ones were requested.
            path: The file.
            remedy: Advice on how to make it again.

        Raises:
            DataError: With what differs.
        """
        check_fingerprint(self.fingerprint, now, path, remedy)
        known = preprocess_settings().keys() & self.settings.keys()
        for name, value in config.external_config_dict.items():
            if name not in known:
                continue
            # The value in the form in which it is stored.
            asked = json.loads(json.dumps(PreprocessSettings.read_one(name, value)))
            if self.settings[name] != asked:
                problem = f"made with {name}={self.settings[name]}, but {name}={asked} was requested"
                raise DataError(path, problem, remedy)
