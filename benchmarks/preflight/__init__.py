"""Compiles the training step of every paper's config for chips that are not here.

    python -m benchmarks.preflight --out=docs/results/preflight [ROW ...]

A row takes 2 to 15 minutes. Each is kept in OUT as soon as it is made, and made again
when its file is gone; the page OUT.md is of all that are there.
"""
