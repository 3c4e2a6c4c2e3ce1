"""Will it fit? The real program, compiled for accelerators that are not there.

    chips      what TPUs and GPUs have and can do
    topology   which slices there are, and devices to compile for
    gpus       the same for GPUs: a card described to the compiler
    program    the training step or a sampler window, lowered for devices
    measure    compile it and read off memory, work and collectives
    flops      multiply-adds of a jaxpr
    estimate   memory of a jaxpr: refuses in seconds what cannot fit
    peaks      of the devices at hand, by their data sheets
    rates      of the devices at hand: a product of matrices, a copy
    hlo        collectives and loops of a compiled module
    cycles     where the TPU compiler expects the time to go
    worker     does that in a process of its own: a compiler may crash
    knobs      what to change when it does not fit
    report     what a person reads
    table      many configs, as one page

Nothing here needs an accelerator: the compilers are in wheels (`libtpu`, JAX's CUDA
plugin).
"""

from vdm_jax.preflight.knobs import preflight
from vdm_jax.preflight.summary import render

__all__ = ["preflight", "render"]
