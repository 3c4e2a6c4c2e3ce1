"""The page of a run: what was trained, how it went, what it makes."""
