"""The dataset of models that read codes: makes missing codes and refuses outdated ones."""

from __future__ import annotations

import os
from pathlib import Path
from time import sleep
from typing import Any

from recbole.config import Config

from recbole_gserec.data.dataset import SearchDataset
from recbole_gserec.data.fingerprint import dataset_fingerprint
from recbole_gserec.data.remedies import advice_to_make_again, preprocess_command
from recbole_gserec.errors import DataError
from recbole_gserec.files import sha256_of_file
from recbole_gserec.json_files import read_json
from recbole_gserec.preprocess.made_with import Provenance
from recbole_gserec.preprocess.run import make_codes_from_config

_SECONDS_BETWEEN_FILES = 0.5


class CodedSearchDataset(SearchDataset):
    """A :class:`SearchDataset` whose ``.code`` file, if the model reads one, exists and matches the data."""

    def _load_data(self, token: str, dataset_path: str) -> None:
        if not os.path.exists(dataset_path):
            self._download()
        reads_codes = "code" in (self.config["additional_feat_suffix"] or [])
        if reads_codes:
            self._make_missing_codes()
            # Check before reading, so that a truncated file is found by its hash and not by its last line.
            record = self._read_record()
        super()._load_data(token, dataset_path)
        if reads_codes and record is not None:
            self._check_record(record)

    def take_codes(self, config: Config) -> None:
        """Read codes as :meth:`SearchDataset.take_codes`; make them if they are missing."""
        self.config = config
        self._make_missing_codes()
        record = self._read_record()
        super().take_codes(config)
        if record is not None:
            self._check_record(record)

    def _make_missing_codes(self) -> None:
        path = Path(self.file_path("code"))
        if not path.is_file():
            # In distributed training, the other processes would wait for the whole stage and time out.
            if not (self.config["preprocess_missing_codes"] and self.config["single_spec"]):
                raise DataError(path, "file not found", f"Make it: {preprocess_command(self.config)}")
            self.logger.warning(
                f"{path} is missing. It is made now, with summarizer '{self.config['summarizer']}' and encoder "
                f"'{self.config['encoder']}', as by `{preprocess_command(self.config)}`."
            )
            make_codes_from_config(self.config, only_missing=True)

    def _read_record(self, again: bool = False) -> Provenance | None:
        """Return the provenance of the codes; None if it is unknown. Refuse codes that the record does not describe."""
        path = Path(self.file_path("code"))
        record = path.with_name(path.name + ".json")
        self._code_hash = sha256_of_file(path)
        if not record.is_file():
            self.logger.warning(
                f"{record} is missing: it is not known what the codes were made from, and for which split."
            )
            return None
        remedy = advice_to_make_again(self.config)
        try:
            made = read_json(record, remedy)
            made_with, code_hash = Provenance.from_description(made), made["code_sha256"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(record, "damaged: it does not say what the codes were made from", remedy) from error
        if code_hash != self._code_hash:
            if not again:
                # Another process may be replacing both files.
                sleep(_SECONDS_BETWEEN_FILES)
                return self._read_record(again=True)
            raise DataError(path, f"not the codes described in {record.name}", remedy)
        return made_with

    def _check_record(self, record: Provenance) -> None:
        now = dataset_fingerprint(self.dataset_path, self.dataset_name, self.config)
        record.check(now, self.config, self.file_path("code"), advice_to_make_again(self.config))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a dataset saved by ``save_dataset``, which holds the codes of its time."""
        self.__dict__.update(state)
        path, code_hash = Path(self.file_path("code")), state.get("_code_hash")
        if code_hash is not None and path.is_file() and sha256_of_file(path) != code_hash:
            raise DataError(path, "changed since the dataset was saved by save_dataset", "Delete the saved dataset.")
