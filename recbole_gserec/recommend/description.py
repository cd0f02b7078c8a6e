"""The provenance of a file of recommendations or vectors."""

from __future__ import annotations

from typing import Any

import recbole_gserec
from recbole_gserec.files import sha256_of_file
from recbole_gserec.recommend.trained import Trained
from recbole_gserec.versions import installed_versions

_PACKAGES = ("recbole", "torch", "numpy", "pyarrow")


def describe_provenance(trained: Trained) -> dict[str, Any]:
    """Describe the model, its checkpoint, its dataset's files and the versions of libraries."""
    return {
        "model": trained.config["model"],
        "dataset": trained.config["dataset"],
        "dataset_files": trained.config.dataset_files,
        "checkpoint": trained.checkpoint.name,
        "checkpoint_sha256": sha256_of_file(trained.checkpoint),
        "versions": {"recbole-gserec": recbole_gserec.__version__, **installed_versions(_PACKAGES)},
    }
