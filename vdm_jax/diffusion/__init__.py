"""The Gaussian diffusion process on log SNR. Knows no network.

`schedule` (levels of noise), `process` (forward, posterior, conversions), `loss`,
`bound` (evidence lower bound), `sampler`, `guidance`.
"""
