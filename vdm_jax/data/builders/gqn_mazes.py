"""GQN-Mazes as FDM reads them: 300 frames of 64x64, with a new maze in each video.

    {train,test}/{0,1,...}.npy     uint8 [T, 64, 64, 3]

The authors convert the videos of CW-VAE's release to this format.
"""

from vdm_jax.data import arrays


class GqnMazes(arrays.NumberedArrays):
  """GQN-Mazes (Eslami 2018, Saxena 2021): walks through a new maze in each video."""
