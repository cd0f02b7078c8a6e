"""Settings that decide what a dataset and its dataloaders hold: what is stored of them is stale when one changes."""

DATASET_SETTINGS = (
    "MAX_SEARCH_LIST_LENGTH",
    "MAX_CLICK_LIST_LENGTH",
    "unordered_timestamps",
    "short_users",
    "eval_candidate_seed",
    "resample_negatives",
    "code_path",
)
