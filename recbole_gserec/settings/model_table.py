"""The one table of models: where a model's class is, its group in the paper's Table 2, and its printed name."""

from collections.abc import Iterable
from typing import NamedTuple

from recbole_gserec.settings.defaults import is_search_aware

RECOMMENDATION = "Recommendation"
SEARCH_ENHANCED = "Search-enhanced recommendation"
GROUPS = (RECOMMENDATION, SEARCH_ENHANCED)
OURS = "GSERec"


class TableEntry(NamedTuple):
    """A row of Table 2.

    Attributes:
        name: Name of the class.
        group: One of :data:`GROUPS`.
        module: Module of :mod:`recbole_gserec.models` with the class; None for RecBole's own models.
        dataset: Whether the model has a dataset and a trainer of this package, for data with searches or text vectors.
            The others are like RecBole's models in all but their class.
        printed: Name in tables, where it is not that of the class.
        loss: What the model is trained for, where ``loss_type`` does not say so.
    """

    name: str
    group: str
    module: str | None = None
    dataset: bool = False
    printed: str | None = None
    loss: str | None = None


TABLE_2 = (
    TableEntry("LightGCN", RECOMMENDATION, loss="BPR"),
    TableEntry("SGL", RECOMMENDATION, loss="BPR"),
    TableEntry("SimGCL", RECOMMENDATION, "simgcl", loss="BPR"),
    TableEntry("GRU4Rec", RECOMMENDATION),
    TableEntry("SASRec", RECOMMENDATION),
    TableEntry("BERT4Rec", RECOMMENDATION, loss="CE of masked items"),
    TableEntry("CL4SRec", RECOMMENDATION, "cl4srec"),
    TableEntry("KAR", RECOMMENDATION, "kar", dataset=True),
    TableEntry("LLMESR", RECOMMENDATION, "llmesr", dataset=True, printed="LLM-ESR"),
    TableEntry("NRHUB", SEARCH_ENHANCED, "nrhub", dataset=True),
    TableEntry("QuerySeqRec", SEARCH_ENHANCED, "query_seqrec", dataset=True, printed="Query-SeqRec"),
    TableEntry("JSR", SEARCH_ENHANCED, "jsr", dataset=True),
    TableEntry("USER", SEARCH_ENHANCED, "user", dataset=True),
    TableEntry("SESRec", SEARCH_ENHANCED, "sesrec", dataset=True),
    TableEntry("UnifiedSSR", SEARCH_ENHANCED, "unifiedssr", dataset=True),
    TableEntry("UniSAR", SEARCH_ENHANCED, "unisar", dataset=True),
    TableEntry("GSERec", SEARCH_ENHANCED, "gserec", dataset=True),
)
"""The models of Table 2 in the paper's order."""

_ENTRIES = {entry.name: entry for entry in TABLE_2}
_ORDER = {entry.name: index for index, entry in enumerate(TABLE_2)}

MODELS = {entry.name: f"recbole_gserec.models.{entry.module}" for entry in TABLE_2 if entry.dataset}
"""Models with a dataset and a trainer of this package, registered ones included: name -> module of the class."""

RECOMMENDATION_MODELS = {
    entry.name: f"recbole_gserec.models.{entry.module}" for entry in TABLE_2 if entry.module and not entry.dataset
}
"""Models of ours, registered ones included, that use RecBole's datasets, dataloaders and trainers."""


def model_group(model: str) -> str:
    """Return the paper's group of a model; for other models, whether they read searches."""
    if model in _ENTRIES:
        return _ENTRIES[model].group
    return SEARCH_ENHANCED if is_search_aware(model) else RECOMMENDATION


def printed_name(model: str) -> str:
    """Return a model's name as the paper prints it."""
    return (model in _ENTRIES and _ENTRIES[model].printed) or model


def loss_without_choice(model: str) -> str | None:
    """Return what a model of Table 2 is trained for if ``loss_type`` does not say so; None for other models."""
    return _ENTRIES[model].loss if model in _ENTRIES else None


def in_paper_order(models: Iterable[str]) -> list[str]:
    """Sort distinct models by group; within a group, the paper's models in its order, then the others by name."""
    return sorted(
        set(models), key=lambda model: (GROUPS.index(model_group(model)), _ORDER.get(model, len(_ORDER)), model)
    )
