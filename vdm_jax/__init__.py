"""Video diffusion models in JAX: VDM, FDM, RaMViD and RVD as one design.

    import vdm_jax as vdm

    config = vdm.configs.get("vdm_digits", train={"num_steps": 1000})
    vdm.train(config, "runs/first")
    videos = vdm.load("runs/first").sample(4, label=3, guidance=2.0)

Everything is imported when it is first used.
"""

import lazy_loader

__version__ = "0.1.0"

# __init__.pyi names what there is.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
