"""Golden cases: inputs and outputs of the papers' own code, and exact mathematics.

`python -m tests.golden FILE...` checks files; `tests/golden/data` has one per kind.
"""
