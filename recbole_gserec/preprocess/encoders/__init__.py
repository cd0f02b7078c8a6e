"""What turns summaries into vectors, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from recbole_gserec.preprocess.encoders.base import TextEncoder
from recbole_gserec.preprocess.encoders.tfidf import TfidfEncoder

if TYPE_CHECKING:
    from recbole_gserec.preprocess.settings import PreprocessSettings

ENCODERS: dict[str, Callable[[PreprocessSettings], TextEncoder]] = {
    "tfidf": lambda settings: TfidfEncoder(settings.encoder_dim, settings.preprocess_seed),
}
"""Name -> function that makes the encoder from the offline stage's settings."""
