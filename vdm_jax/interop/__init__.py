"""PyTorch checkpoints in the layouts of the papers' authors, in and out."""
