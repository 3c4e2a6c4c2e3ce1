"""Evaluation: numbers about samples, and the pictures that go with them."""
