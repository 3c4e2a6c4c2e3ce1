"""Published PyTorch checkpoints in; one file a format."""
