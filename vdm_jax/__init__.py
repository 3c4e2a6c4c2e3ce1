"""Video diffusion models in JAX: VDM, FDM, RaMViD and RVD as one design."""

__version__ = "0.1.0"
