"""What summarises histories, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from recbole_gserec.preprocess.summarizers.base import Summarizer
from recbole_gserec.preprocess.summarizers.template import TemplateSummarizer

if TYPE_CHECKING:
    from recbole_gserec.preprocess.settings import PreprocessSettings

SUMMARIZERS: dict[str, Callable[[PreprocessSettings], Summarizer]] = {
    "template": lambda settings: TemplateSummarizer(),
}
"""Name -> function that makes the summarizer from the offline stage's settings."""
