"""Evaluation of samples, in numbers and figures."""
