"""The contents of a workdir: checkpoints, config, metrics."""
