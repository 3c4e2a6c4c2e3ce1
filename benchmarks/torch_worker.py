"""The other side of the benchmarks: video-diffusion-pytorch.

Runs in an environment of its own, so it imports nothing of vdm_jax. A request is a
line of JSON on stdin, its answer one on stdout; a request that failed is answered
`{"error": ...}`:

    {"do": "build", "size": {...}, "threads": 2}  the network, in two memory formats
    {"do": "measure", "layout": "plain", "part": "step"}  one call, timed
    {"do": "version"}  PyTorch, the device, and the most bytes allocated on it

`build` takes further `device`, "cpu" or "cuda"; `autocast`, products in bfloat16;
`compile`, a backend of torch.compile for the network. `measure` takes `calls`, timed as
a whole.
"""

import contextlib
import json
import sys
import time
import types


def stub_torchvision():
  """Replaces torchvision, which the package imports only to read GIFs.

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

del sys.modules["torchvision"]  # torch.compile looks whether it is there.

PARTS = ("step", "forward", "sample")


class Model:
  """The package's network, diffusion and optimizer; `call` runs a part once."""

  def __init__(self, size, channels_last, device="cpu", autocast=False):
    torch.manual_seed(0)
    t, h, c = size["frames"], size["pixels"], size["channels"]
    self.network = package.Unet3D(
      dim=size["width"], dim_mults=tuple(size["mults"]), channels=c
    )
    self.diffusion = package.GaussianDiffusion(
      self.network, image_size=h, num_frames=t, channels=c, loss_type="l2"
    ).to(device)
    self.video = torch.rand(size["batch"], c, t, h, h, device=device)
    if channels_last:
      for module in self.network.modules():
        if isinstance(module, torch.nn.Conv3d | torch.nn.ConvTranspose3d):
          module.to(memory_format=torch.channels_last_3d)
      self.video = self.video.to(memory_format=torch.channels_last_3d)
    # As the package's Trainer makes it.
    self.optimizer = torch.optim.Adam(self.diffusion.parameters(), lr=1e-4)
    self.time = torch.full((size["batch"],), 500, dtype=torch.long, device=device)
    self.noise = torch.randn_like(self.video)
    self.autocast = torch.autocast(device, torch.bfloat16, enabled=autocast)

  def compile(self, backend):
    # Every attention asks a mask that is all False whether it is, which would wait for
    # the device and cut the graph there; without one the results are the same.
    package.video_diffusion_pytorch.prob_mask_like = lambda *args, **kwargs: None
    # Not the module: the sampler calls `forward` by name.
    self.network.forward = torch.compile(
      self.network.forward, backend=backend, dynamic=False
    )

  def call(self, part):
    if part == "step":
      self.optimizer.zero_grad()
      with self.autocast:
        loss = self.diffusion(self.video)
      loss.backward()
      self.optimizer.step()
    elif part == "forward":
      with torch.no_grad(), self.autocast:
        self.diffusion(self.video)
    else:
      with self.autocast:
        self.diffusion.p_sample(self.noise, self.time)

  def flop(self, part):
    # Of one video, in float32: the counter and autocast exclude each other.
    whole = self.video, self.time, self.noise, self.autocast
    self.video, self.time, self.noise = (a[:1] for a in whole[:3])
    self.autocast = contextlib.nullcontext()
    with FlopCounterMode(display=False) as counter:
      self.call(part)
    self.video, self.time, self.noise, self.autocast = whole
    return counter.get_total_flops() * len(self.video)


def measure(call, calls):
  """Measures the mean seconds of several calls: wall, processor."""
  processor, wall = time.process_time(), time.perf_counter()
  for _ in range(calls):
    call()
  if torch.cuda.is_available():
    torch.cuda.synchronize()
  wall, processor = time.perf_counter() - wall, time.process_time() - processor
  return wall / calls, processor / calls


class Side:
  """Answers requests; keeps the networks that were built."""

  def build(self, size, threads, device="cpu", autocast=False, compile=None):
    torch.set_num_threads(threads)
    # What is left in float32 may use the tensor cores; kernels are chosen by trial.
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    self.models = {
      "plain": Model(size, False, device, autocast),
      "channels_last": Model(size, True, device, autocast),
    }
    plain = self.models["plain"]
    trained = plain.diffusion.parameters()
    answer = {
      "parameters": sum(p.numel() for p in trained if p.requires_grad),
      # Before compilation, which hides operations from the counter.
      "flop": {part: plain.flop(part) for part in PARTS},
    }
    if compile:
      for model in self.models.values():
        model.compile(compile)
    return answer

  def measure(self, layout, part, calls=1):
    model = self.models[layout]
    return measure(lambda: model.call(part), calls)

  def version(self):
    cuda = torch.cuda.is_available()
    return {
      "torch": torch.__version__,
      "device": torch.cuda.get_device_name() if cuda else "cpu",
      "memory_peak": torch.cuda.max_memory_allocated() if cuda else None,
    }


def main():
  side = Side()
  for line in sys.stdin:
    request = json.loads(line)
    try:
      answer = getattr(side, request.pop("do"))(**request)
    except Exception as error:  # Told, and the next request may do.
      text = " ".join(str(error).split())
      answer = {"error": f"{type(error).__name__}: {text}"[:300]}
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
  main()
