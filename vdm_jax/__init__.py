"""Video diffusion models in JAX: VDM, FDM, RaMViD and RVD as one design.

    import vdm_jax as vdm

    config = vdm.configs.get("vdm_digits", train={"num_steps": 1000})
    vdm.train(config, "runs/first")
    videos = vdm.load("runs/first").sample(4, label=3, guidance=2.0)

Submodules are imported lazily, on first use.
"""

import lazy_loader

__version__ = "0.1.0"

# The public names are listed in __init__.pyi.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
