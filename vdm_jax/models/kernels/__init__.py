"""Kernels for accelerators, beside the plain forms that run everywhere."""
