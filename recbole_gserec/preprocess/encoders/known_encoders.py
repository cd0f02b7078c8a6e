"""Text encoders, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from recbole_gserec.preprocess.encoders.base import TextEncoder, TfidfEncoder

if TYPE_CHECKING:
    from recbole_gserec.settings import PreprocessSettings


def _flag_options(settings: PreprocessSettings) -> tuple[str | None, int, str]:
    return settings.encoder_pooling, settings.encoder_batch_size, settings.encoder_dtype


def _flag(settings: PreprocessSettings, name: str) -> TextEncoder:
    from recbole_gserec.preprocess.encoders.flag import FlagEncoder

    return FlagEncoder(name, *_flag_options(settings))


def _bge_m3(settings: PreprocessSettings, name: str) -> TextEncoder:
    from recbole_gserec.preprocess.encoders.flag import BGEM3Encoder

    return BGEM3Encoder(name or "BAAI/bge-m3", *_flag_options(settings))


def _sentence_transformers(settings: PreprocessSettings, name: str) -> TextEncoder:
    from recbole_gserec.preprocess.encoders.pretrained import SentenceTransformersEncoder

    return SentenceTransformersEncoder(name, settings.encoder_batch_size)


ENCODERS: dict[str, Callable[[PreprocessSettings, str], TextEncoder]] = {
    "tfidf": lambda settings, _: TfidfEncoder(settings.encoder_dim, settings.preprocess_seed),
    "bge-m3": _bge_m3,
    "flag": _flag,
    "sentence-transformers": _sentence_transformers,
}
"""Kind -> function that creates the encoder from the offline stage's settings and the name after the colon."""


def make_encoder(settings: PreprocessSettings) -> TextEncoder:
    """Create the encoder that the settings name."""
    kind, _, name = settings.encoder.partition(":")
    return ENCODERS[kind](settings, name)
