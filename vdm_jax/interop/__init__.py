"""Reading and writing of PyTorch checkpoints in the layouts of the papers' authors."""
