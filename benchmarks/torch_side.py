"""Starts the process that measures video-diffusion-pytorch, in its own environment."""

import contextlib
import importlib.util
import json
import pathlib
import subprocess
import sys

from vdm_jax import user_files

TORCH = "torch==2.13.0+cpu"  # Only CPU builds are called so.
PACKAGES = (
  "video-diffusion-pytorch==0.7.0 rotary-embedding-torch==0.9.1 einops==0.8.1 "
  "einops-exts==0.0.4"
).split()
SMALL_PACKAGES = "tqdm pillow numpy".split()
REFERENCE = "video-diffusion-pytorch"
LAYOUTS = ("plain", "channels_last")


class Worker:
  """The process in the other environment; see `torch_worker.py`."""

  def __init__(self, python: str):
    script = pathlib.Path(__file__).with_name("torch_worker.py")
    self._process = subprocess.Popen(
      [python, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

  def ask(self, **request):
    self._process.stdin.write(json.dumps(request) + "\n")
    self._process.stdin.flush()
    answer = self._process.stdout.readline()
    if not answer:
      raise RuntimeError("the PyTorch side died; its message is above")
    answer = json.loads(answer)
    if isinstance(answer, dict) and "error" in answer:
      raise RuntimeError(answer["error"])
    return answer

  def kill(self) -> None:
    """Ends the process, whatever it is doing."""
    self._process.kill()

  def close(self) -> None:
    with contextlib.suppress(BrokenPipeError):  # It was killed, or died.
      self._process.stdin.close()
    self._process.wait()


def installed(folder: pathlib.Path | None = None) -> str | None:
  """Finds a Python that has PyTorch and the reference package, or returns None.

  Args:
    folder: an environment; default this process's, then the one `environment` makes.
  """
  if folder is None:
    modules = ("torch", "video_diffusion_pytorch")
    if all(importlib.util.find_spec(module) for module in modules):
      return sys.executable
    folder = cache_folder()
  python = folder / "bin" / "python"
  return str(python) if python.exists() else None


def environment(folder: pathlib.Path) -> str:
  """Returns a Python with the reference package, installed at the first use."""
  python = folder / "bin" / "python"
  done = folder / "installed"
  wanted = " ".join([TORCH, *PACKAGES, *SMALL_PACKAGES])
  if done.exists() and done.read_text() == wanted:
    return str(python)
  print(f"installing {REFERENCE} and CPU PyTorch in {folder}", file=sys.stderr)
  subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
  pip = [str(python), "-m", "pip", "install", "--quiet"]
  # A CPU build where the registry has one; --env takes an environment made by hand.
  subprocess.run([*pip, TORCH], check=True)
  subprocess.run([*pip, *SMALL_PACKAGES], check=True)
  # Without what it asks for: transformers and torchvision would bring CUDA along,
  # and neither is needed by an unconditional network.
  subprocess.run([*pip, "--no-deps", *PACKAGES], check=True)
  done.write_text(wanted)
  return str(python)


def cache_folder() -> pathlib.Path:
  return user_files.cache("benchmark_torch")
