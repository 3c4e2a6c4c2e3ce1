"""The Gaussian diffusion process on log SNR. Knows no network.

`schedule` (levels of noise), `process` (forward, posterior, conversions), `loss`,
`bound` (evidence lower bound), `sampler`, `guidance`.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
  from vdm_jax.diffusion import bound, guidance, loss, noise, process, sampler, schedule

__getattr__, __dir__, _ = lazy_loader.attach(
  __name__,
  submodules=["bound", "guidance", "loss", "noise", "process", "sampler", "schedule"],
)

__all__ = [
  "bound",
  "guidance",
  "loss",
  "noise",
  "process",
  "sampler",
  "schedule",
]
