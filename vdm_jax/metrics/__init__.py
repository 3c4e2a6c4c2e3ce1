"""Metrics of videos: pure functions of arrays, and the networks that some need.

Runs, data sets and folders are the business of `vdm_jax.evaluation`.
"""

import lazy_loader

# The public names are listed in __init__.pyi.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
