"""The models of the paper's Table 2: their order, groups and printed names."""

from collections.abc import Iterable

from recbole_gserec.settings import is_search_aware

RECOMMENDATION = "Recommendation"
SEARCH_ENHANCED = "Search-enhanced recommendation"

TABLE_2 = {
    RECOMMENDATION: (
        "LightGCN",
        "SGL",
        "SimGCL",
        "GRU4Rec",
        "SASRec",
        "BERT4Rec",
        "CL4SRec",
        "KAR",
        "LLMESR",
    ),
    SEARCH_ENHANCED: (
        "NRHUB",
        "QuerySeqRec",
        "JSR",
        "USER",
        "SESRec",
        "UnifiedSSR",
        "UniSAR",
        "GSERec",
    ),
}
GROUPS = tuple(TABLE_2)
OURS = "GSERec"

_PLACES = {model: place for place, model in enumerate(model for group in TABLE_2.values() for model in group)}
_PRINTED = {"LLMESR": "LLM-ESR", "QuerySeqRec": "Query-SeqRec"}


def model_group(model: str) -> str:
    """Return the paper's group of a model; for other models, whether they read searches."""
    for group, models in TABLE_2.items():
        if model in models:
            return group
    return SEARCH_ENHANCED if is_search_aware(model) else RECOMMENDATION


def printed_name(model: str) -> str:
    """Return a model's name as the paper prints it."""
    return _PRINTED.get(model, model)


def in_paper_order(models: Iterable[str]) -> list[str]:
    """Sort distinct models by group; within a group, the paper's models in its order, then the others by name."""
    return sorted(
        set(models), key=lambda model: (GROUPS.index(model_group(model)), _PLACES.get(model, len(_PLACES)), model)
    )
