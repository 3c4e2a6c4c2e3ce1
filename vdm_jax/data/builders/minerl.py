"""MineRL Navigate as FDM reads it: walks through Minecraft, 500 frames of 64x64.

    {train,test}/{0,1,...}.npy     uint8 [T, 64, 64, 3]

The authors convert the videos of CW-VAE's release to this format.
"""

from vdm_jax.data import arrays


class Minerl(arrays.NumberedArrays):
  """MineRL Navigate (Guss 2019, Saxena 2021): people walking through Minecraft."""
