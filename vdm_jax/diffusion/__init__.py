"""The Gaussian diffusion process on log SNR. Knows no network.

`schedule` (levels of noise), `process` (forward, posterior, conversions), `loss`,
`bound` (evidence lower bound), `sampler`, `guidance`.
"""

import lazy_loader

# __init__.pyi names what there is.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
