"""The dataset of models that read text vectors: makes missing vectors and refuses outdated ones."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from recbole_gserec.data.dataset import SearchDataset
from recbole_gserec.data.dataset_paths import append_suffix
from recbole_gserec.data.fingerprint import dataset_fingerprint
from recbole_gserec.data.remedies import preprocess_command
from recbole_gserec.errors import DataError
from recbole_gserec.json_files import read_json
from recbole_gserec.preprocess.alone import exclusive_lock
from recbole_gserec.preprocess.made_with import Provenance
from recbole_gserec.preprocess.run import make_vectors_from_config
from recbole_gserec.preprocess.text_vectors import vectors_path
from recbole_gserec.preprocess.vector_files import read_vectors

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
        remedy = f"Make it: {self._command}"
        for name, value in _MADE_HERE.items():
            if self.config[name] != value:
                problem = f"file not found, and with {name} '{self.config[name]}' it is only made on command"
                raise DataError(missing[0], problem, remedy)
        # In distributed training, each process would make them.
        if not (self.config["preprocess_missing_vectors"] and self.config["single_spec"]):
            raise DataError(missing[0], "file not found", remedy)
        if len(missing) < len(paths):
            raise DataError(missing[0], "file not found, though others of its kind are there", remedy)
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
            made_with = read_json(path, f"Make the codes again, or delete it: {self._command}")["settings"]
            other = {name: made_with[name] for name, value in _MADE_HERE.items() if made_with[name] != value}
        except (FileNotFoundError, KeyError, TypeError):
            return
        other = {name: value for name, value in other.items() if name not in self.config.external_config_dict}
        if other:
            name, value = next(iter(other.items()))
            remedy = (
                f"Make vectors as the codes were made, with the same command and {_OPTION}, "
                f"or request others with --{name}={_MADE_HERE[name]}"
            )
            raise DataError(path, f"the codes were made with {name} '{value}', and there are no vectors yet", remedy)

    def _read(self, kind: str) -> Tensor:
        """Read the vectors of a kind, in the order of ids."""
        path, remedy = vectors_path(self._prefix, kind), f"Make it again: {self._command}"
        ids, columns, description = read_vectors(path)
        column = COLUMNS[kind]
        if column not in columns:
            raise DataError(path, f"has no column '{column}'", remedy)
        self._check_description(path, description, remedy)
        tokens = self.field2id_token[{"user": self.uid_field, "item": self.iid_field}[kind]]
        indices = pd.Index(ids).get_indexer(tokens[1:])
        if (indices < 0).any():
            first = tokens[1:][indices < 0][0]
            raise DataError(path, f"{(indices < 0).sum():,} {kind}s have no row (first: '{first}')", remedy)
        vectors = np.concatenate([np.zeros((1, columns[column].shape[1]), np.float32), columns[column][indices]])
        if not vectors.any():
            if kind == "user":
                raise DataError(path, "no user has a summary", remedy)
            raise DataError(path, "no item has a text", "Give items texts: columns of words in the .item file.")
        return torch.from_numpy(vectors)

    def _check_description(self, path: Path, description: dict[str, Any], remedy: str) -> None:
        try:
            made_with = Provenance.from_description(description)
        except (ValueError, KeyError, TypeError):
            self.logger.warning(f"{path} does not say from which data its vectors were made, and for which split.")
            return
        made_with.check(self._fingerprint, self.config, path, remedy)
