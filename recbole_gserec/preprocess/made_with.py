"""What a file of the offline stage was made from and with, and whether it is what is asked for."""

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


class MadeWith(NamedTuple):
    """What decided such a file.

    Attributes:
        fingerprint: Of the data; see :func:`recbole_gserec.data.fingerprint.dataset_fingerprint`.
        settings: Of the offline stage, as JSON holds them.
    """

    fingerprint: Mapping[str, Any]
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> MadeWith:
        """Take it out of the description that is kept with the file.

        Raises:
            ValueError, KeyError, TypeError: If it is not in there.
        """
        parts = {part: dict(description["fingerprint"][part]) for part in ("files", "settings")}
        return cls(parts, dict(description["settings"]))

    def check(self, now: Mapping[str, Any], config: Config, path: str | Path, remedy: str) -> None:
        """Refuse the file if it is from other data, or made with other settings than those the user gives.

        Args:
            now: Fingerprint of the dataset as it is.
            config: RecBole's settings; what the user gave is told apart by its ``external_config_dict``.
            path: The file.
            remedy: How to make it again.

        Raises:
            DataError: Naming what differs.
        """
        check_fingerprint(self.fingerprint, now, path, remedy)
        known = preprocess_settings().keys() & self.settings.keys()
        for name, value in config.external_config_dict.items():
            if name not in known:
                continue
            # The value in the one form in which it is stored.
            asked = json.loads(json.dumps(PreprocessSettings.read_one(name, value)))
            if self.settings[name] != asked:
                problem = f"made with {name}={self.settings[name]}, and not with the {name}={asked} asked for"
                raise DataError(path, problem, remedy)
