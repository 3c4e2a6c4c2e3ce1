"""Training of anything that has `init` and `loss(params, batch, key)`."""
