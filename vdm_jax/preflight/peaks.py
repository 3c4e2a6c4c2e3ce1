"""Peak speeds of devices at hand, by the names that they report."""

import jax

from vdm_jax.preflight import chips

# Dense products in bfloat16, from NVIDIA's data sheets; TPUs, and the cards that
# preflight describes, are in `chips`. The first name that a device's kind starts with
# counts, as NVL cards are slower.
_GPUS = {
  "NVIDIA A100": chips.GPUS["a100"].flops,
  "NVIDIA H100 NVL": 835e12,
  "NVIDIA H100 PCIe": 756e12,
  "NVIDIA H100": chips.GPUS["h100"].flops,
  "NVIDIA H200 NVL": 836e12,
  "NVIDIA H200": chips.GPUS["h200"].flops,
}


def peak(device: jax.Device) -> float | None:
  """Looks up a device's operations per second in bfloat16, a multiply-add as two.

  Returns:
    The figure of its data sheet; None if the tables lack the device.
  """
  chip = chips.tpu_of(device)
  if chip is not None:
    # A chip of tpu7x is two devices, any other chip is one.
    return chip.flops / (2 if chip is chips.TPUS["tpu7x"] else 1)
  kind = device.device_kind
  return next((peak for name, peak in _GPUS.items() if kind.startswith(name)), None)
