"""The Gaussian diffusion process on log SNR, independent of any network.

`schedule` (levels of noise), `process` (forward, posterior, conversions), `loss`,
`bound` (evidence lower bound), `sampler`, `guidance`.
"""

import lazy_loader

# The public names are listed in __init__.pyi.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
