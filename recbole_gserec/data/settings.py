"""Settings that decide what a dataset holds: a cached dataset is stale when one of them changes."""

DATASET_SETTINGS = (
    "MAX_SEARCH_LIST_LENGTH",
    "MAX_CLICK_LIST_LENGTH",
    "unordered_timestamps",
    "short_users",
    "eval_candidate_seed",
    "resample_negatives",
    "code_path",
)
