"""Networks: Flax Linen modules, pure functions of their parameters."""
