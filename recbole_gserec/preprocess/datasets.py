"""Datasets of models that read codes or text vectors: missing files are made, and stale ones refused."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from time import sleep
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from recbole.config import Config
from torch import Tensor

from recbole_gserec.data import (
    SearchDataset,
    advice_to_make_again,
    check_fingerprint,
    dataset_fingerprint,
    preprocess_command,
)
from recbole_gserec.errors import DataError
from recbole_gserec.files import read_json, sha256_of_file
from recbole_gserec.preprocess.run import exclusive_lock, make_codes_from_config, make_vectors_from_config
from recbole_gserec.preprocess.vector_files import read_vectors
from recbole_gserec.preprocess.vectors import vectors_path
from recbole_gserec.settings import PreprocessSettings, append_suffix, preprocess_settings


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

    def check(self, now: Mapping[str, Any], config: Config, path: str | Path, advice: str) -> None:
        """Refuse a file from other data, or made with settings other than the requested ones.

        Args:
            now: Fingerprint of the current dataset.
            config: RecBole's settings; its ``external_config_dict`` shows which ones were requested.
            path: The file.
            advice: Advice on how to make it again.

        Raises:
            DataError: With what differs.
        """
        check_fingerprint(self.fingerprint, now, path, advice)
        known = preprocess_settings().keys() & self.settings.keys()
        for name, value in config.external_config_dict.items():
            if name not in known:
                continue
            # The value in the form in which it is stored.
            asked = json.loads(json.dumps(PreprocessSettings.read_one(name, value)))
            if self.settings[name] != asked:
                problem = f"made with {name}={self.settings[name]}, but {name}={asked} was requested"
                raise DataError(path, problem, advice)


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
        advice = advice_to_make_again(self.config)
        try:
            made = read_json(record, advice)
            provenance, code_hash = Provenance.from_description(made), made["code_sha256"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(record, "damaged: it does not say what the codes were made from", advice) from error
        if code_hash != self._code_hash:
            if not again:
                # Another process may be replacing both files.
                sleep(_SECONDS_BETWEEN_FILES)
                return self._read_record(again=True)
            raise DataError(path, f"not the codes described in {record.name}", advice)
        return provenance

    def _check_record(self, record: Provenance) -> None:
        now = dataset_fingerprint(self.dataset_path, self.dataset_name, self.config)
        record.check(now, self.config, self.file_path("code"), advice_to_make_again(self.config))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a dataset saved by ``save_dataset``, which holds the codes of its time."""
        self.__dict__.update(state)
        path, code_hash = Path(self.file_path("code")), state.get("_code_hash")
        if code_hash is not None and path.is_file() and sha256_of_file(path) != code_hash:
            raise DataError(path, "changed since the dataset was saved by save_dataset", "Delete the saved dataset.")


COLUMNS = {"user": "recommendation", "item": "text"}
"""Kind of vectors -> column of its file. None of them contains information from searches."""

_OPTION = f"--text_vectors=[{','.join(COLUMNS)}]"

# With the default of each of these, no model must be downloaded.
_MADE_HERE = {"summarizer": "template", "encoder": "tfidf"}


class VectoredSearchDataset(SearchDataset):
    """A :class:`SearchDataset` with a vector of each user's recommendation summary and of each item's text.

    Attributes:
        text_vectors (dict): ``user`` ``[n_users, D]`` and ``item`` ``[n_items, D']``; 0 where there is no text. They
            are there once the dataset is built.
    """

    def _load_data(self, token: str, dataset_path: str) -> None:
        if not os.path.exists(dataset_path):
            self._download()
        self._fingerprint = dataset_fingerprint(self.dataset_path, self.dataset_name, self.config)
        self._make_missing_vectors()
        super()._load_data(token, dataset_path)

    def _change_feat_format(self) -> None:
        super()._change_feat_format()
        self.text_vectors = {kind: self._read(kind) for kind in COLUMNS}

    @property
    def _prefix(self) -> Path:
        return Path(self.dataset_path) / self.dataset_name

    @property
    def _command(self) -> str:
        return f"{preprocess_command(self.config)} {shlex.quote(_OPTION)}"

    def _make_missing_vectors(self) -> None:
        paths = [vectors_path(self._prefix, kind) for kind in COLUMNS]
        if all(path.is_file() for path in paths):
            return
        # Another process may have made one of them, or may run the offline stage, which makes them too.
        with exclusive_lock(append_suffix(self._prefix, ".code")):
            missing = [path for path in paths if not path.is_file()]
            if missing:
                self._make_vectors(paths, missing)

    def _make_vectors(self, paths: list[Path], missing: list[Path]) -> None:
        advice = f"Make it: {self._command}"
        for name, value in _MADE_HERE.items():
            if self.config[name] != value:
                problem = f"file not found, and not made automatically with {name} '{self.config[name]}'"
                raise DataError(missing[0], problem, advice)
        # In distributed training, each process would make them.
        if not (self.config["preprocess_missing_vectors"] and self.config["single_spec"]):
            raise DataError(missing[0], "file not found", advice)
        if len(missing) < len(paths):
            raise DataError(missing[0], "file not found, although other vector files exist", advice)
        self._check_codes()
        self.logger.warning(
            f"{' and '.join(map(str, missing))} are missing. They are made now from interactions alone, with "
            f"summarizer '{self.config['summarizer']}' and encoder '{self.config['encoder']}'."
        )
        make_vectors_from_config(self.config)

    def _check_codes(self) -> None:
        """Refuse to make other summaries and vectors than those that the dataset's codes come from."""
        path = append_suffix(self._prefix, ".code.json")
        try:
            provenance = read_json(path, f"Make the codes again, or delete it: {self._command}")["settings"]
            other = {name: provenance[name] for name, value in _MADE_HERE.items() if provenance[name] != value}
        except (FileNotFoundError, KeyError, TypeError):
            return
        other = {name: value for name, value in other.items() if name not in self.config.external_config_dict}
        if other:
            name, value = next(iter(other.items()))
            advice = (
                f"Make vectors as the codes were made, with the same command and {_OPTION}, "
                f"or request others with --{name}={_MADE_HERE[name]}"
            )
            raise DataError(path, f"the codes were made with {name} '{value}', and there are no vectors yet", advice)

    def _read(self, kind: str) -> Tensor:
        """Read the vectors of a kind, in the order of ids."""
        path, advice = vectors_path(self._prefix, kind), f"Make it again: {self._command}"
        ids, columns, description = read_vectors(path)
        column = COLUMNS[kind]
        if column not in columns:
            raise DataError(path, f"has no column '{column}'", advice)
        self._check_description(path, description, advice)
        tokens = self.field2id_token[{"user": self.uid_field, "item": self.iid_field}[kind]]
        indices = pd.Index(ids).get_indexer(tokens[1:])
        if (indices < 0).any():
            first = tokens[1:][indices < 0][0]
            raise DataError(path, f"{(indices < 0).sum():,} {kind}s have no row (first: '{first}')", advice)
        vectors = np.concatenate([np.zeros((1, columns[column].shape[1]), np.float32), columns[column][indices]])
        if not vectors.any():
            if kind == "user":
                raise DataError(path, "no user has a summary", advice)
            raise DataError(path, "no item has a text", "Give items texts: columns of words in the .item file.")
        return torch.from_numpy(vectors)

    def _check_description(self, path: Path, description: dict[str, Any], advice: str) -> None:
        try:
            provenance = Provenance.from_description(description)
        except (ValueError, KeyError, TypeError):
            self.logger.warning(f"{path} does not say from which data its vectors were made, and for which split.")
            return
        provenance.check(self._fingerprint, self.config, path, advice)
