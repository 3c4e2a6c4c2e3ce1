"""Measures of videos: pure functions of arrays, and the networks that some need.

Nothing here knows of runs, data sets or folders; `vdm_jax.evaluation` does.
"""

import lazy_loader

# __init__.pyi names what there is.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
