"""The other side of `benchmarks/train_step.py`: video-diffusion-pytorch, on CPU.

Runs in an environment of its own, so it imports nothing of vdm_jax. A request is a
line of JSON on stdin, its answer one on stdout:

    {"do": "build", "size": {...}, "threads": 2}  the network, in two memory formats
    {"do": "measure", "layout": "plain", "part": "step"}  one call, timed
"""

import functools
import json
import sys
import time
import types


def stub_torchvision():
  """The package imports torchvision for reading GIFs; its network needs none of it.

  The CPU build of torchvision must match torch's exactly and may be missing.
  """
  stub = types.ModuleType("torchvision")
  # Called once while the package is imported, as the default of an argument.
  stub.transforms = types.SimpleNamespace(ToTensor=lambda: None)
  stub.utils = types.SimpleNamespace()
  sys.modules["torchvision"] = stub


stub_torchvision()

import torch  # noqa: E402
import video_diffusion_pytorch as package  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

PARTS = ("step", "forward", "sample")


class Model:
  """The package's network, diffusion and optimizer; `call` runs a part once."""

  def __init__(self, size, channels_last):
    torch.manual_seed(0)
    t, h, c = size["frames"], size["pixels"], size["channels"]
    network = package.Unet3D(
      dim=size["width"], dim_mults=tuple(size["mults"]), channels=c
    )
    self.diffusion = package.GaussianDiffusion(
      network, image_size=h, num_frames=t, channels=c, loss_type="l2"
    )
    self.video = torch.rand(size["batch"], c, t, h, h)
    if channels_last:
      for module in network.modules():
        if isinstance(module, torch.nn.Conv3d | torch.nn.ConvTranspose3d):
          module.to(memory_format=torch.channels_last_3d)
      self.video = self.video.to(memory_format=torch.channels_last_3d)
    # As the package's Trainer makes it.
    self.optimizer = torch.optim.Adam(self.diffusion.parameters(), lr=1e-4)
    self.time = torch.full((size["batch"],), 500, dtype=torch.long)
    self.noise = torch.randn_like(self.video)

  def call(self, part):
    if part == "step":
      self.optimizer.zero_grad()
      self.diffusion(self.video).backward()
      self.optimizer.step()
    elif part == "forward":
      with torch.no_grad():
        self.diffusion(self.video)
    else:
      self.diffusion.p_sample(self.noise, self.time)

  def flop(self, part):
    with FlopCounterMode(display=False) as counter:
      self.call(part)
    return counter.get_total_flops()


def measure(call):
  """Seconds of one call: wall, processor."""
  processor, wall = time.process_time(), time.perf_counter()
  call()
  return time.perf_counter() - wall, time.process_time() - processor


def main():
  models = {}
  for line in sys.stdin:
    request = json.loads(line)
    if request["do"] == "build":
      torch.set_num_threads(request["threads"])
      size = request["size"]
      models = {
        "plain": Model(size, False),
        "channels_last": Model(size, True),
      }
      trained = models["plain"].diffusion.parameters()
      answer = {
        "parameters": sum(p.numel() for p in trained if p.requires_grad),
        "flop": {part: models["plain"].flop(part) for part in PARTS},
      }
    elif request["do"] == "version":
      answer = torch.__version__
    else:
      model = models[request["layout"]]
      answer = measure(functools.partial(model.call, request["part"]))
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
  main()
