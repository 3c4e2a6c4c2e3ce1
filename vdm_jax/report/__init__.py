"""The page of a run, which shows its config, its training and its samples."""
