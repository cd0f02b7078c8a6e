"""Settings that affect a dataset and its dataloaders. Stored ones are outdated when one of these changes."""

DATASET_SETTINGS = (
    "MAX_SEARCH_LIST_LENGTH",
    "MAX_CLICK_LIST_LENGTH",
    "unordered_timestamps",
    "short_users",
    "eval_candidate_seed",
    "resample_negatives",
    "code_path",
)
