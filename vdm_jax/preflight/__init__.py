"""Whether a config fits: its real program, compiled for accelerators that are absent.

    chips      memory and speed of TPUs and GPUs
    topology   slices by name, and their devices to compile for
    gpus       GPUs, each described to the compiler
    lowerable  the training step or a sampler window, ready to be lowered
    measure    compilation; memory, work and collectives of the result
    flops      multiply-adds of a jaxpr
    estimate   memory of a jaxpr, to refuse in seconds what cannot fit
    peaks      speeds of the devices at hand, from their data sheets
    rates      speeds of the devices at hand, measured: a matrix product, a copy
    hlo        collectives and loops of a compiled module
    cycles     where the TPU compiler expects time to be spent
    worker     measurement in a separate process, as a compiler may crash
    knobs      settings to change if it does not fit
    summary    the report for the user

Nothing here needs an accelerator: the compilers are in wheels (`libtpu`, JAX's CUDA
plugin).
"""

from vdm_jax.preflight.knobs import preflight
from vdm_jax.preflight.summary import render

__all__ = ["preflight", "render"]
