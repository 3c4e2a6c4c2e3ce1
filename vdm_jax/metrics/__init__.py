"""Measures of videos: pure functions of arrays, and the networks that some need.

Nothing here knows of runs, data sets or folders; `vdm_jax.evaluation` does.
"""
