"""What a workdir holds: checkpoints, config, metrics."""
