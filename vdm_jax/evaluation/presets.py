"""Presets of protocol `fvd`: how published numbers were measured.

The fields decide a number; `known` says where they are known from:

    read       seen in the code that computed it
    said       an author said so in public
    recalled   from memory of the paper; confirm before quoting
"""

import dataclasses
from typing import Any

from vdm_jax.errors import unknown


@dataclasses.dataclass(frozen=True)
class Preset:
  """One published protocol.

  Attributes:
    text: description, which marks what is only recalled.
    known: 'read', 'said' or 'recalled', the weakest of all fields.
    published: the numbers as their paper gives them.
    num_a: number of videos of the model.
    num_b: number of real videos.
    num_frames: frames per clip that count; 0 is all.
    window: 'first' or 'random'.
    include_conditioning: whether frames that were given count.
    network: 'i3d' or 'c3d'.
    resize: I3D's resizing rule.
    bn_eps: epsilon of I3D's batch norms.
    ddof: covariances are divided by n minus this.
    root: root of the cross term, see protocol `fvd`.
    inception_splits: number of splits of an Inception score; 0 for none.
  """

  text: str
  known: str
  published: str = ""
  num_a: int = 0
  num_b: int = 0
  num_frames: int = 16
  window: str = "first"
  include_conditioning: bool = True
  network: str = "i3d"
  resize: str = "tf1_legacy"
  bn_eps: float = 1e-3
  ddof: int = 1
  root: str = "exact"
  inception_splits: int = 0

  def settings(self) -> dict[str, Any]:
    """Returns the settings that the protocol takes."""
    skipped = ("text", "known", "published")
    return {k: v for k, v in dataclasses.asdict(self).items() if k not in skipped}


_FITVID = dict(num_a=25_600, num_b=256, num_frames=15, include_conditioning=False)
_FDM = dict(num_a=100, num_b=100, root="sqrtm")
_MCVD = dict(num_a=2560, num_b=256, resize="short_side_crop", root="sqrtm")

PRESETS: dict[str, Preset] = {
  "tfhub": Preset(
    "the original FVD code: TF-Hub's network and resizing, 16 frames", "read"
  ),
  "styleganv": Preset(
    "StyleGAN-V's code: covariances with n, scipy's root; its resizing is inside a "
    "TorchScript file and recalled here as half-pixel",
    "recalled",
    num_a=2048, num_b=2048, resize="half_pixel", ddof=0, root="sqrtm",
  ),
  "videogpt": Preset(
    "VideoGPT's and TATS' code: short side and crop, epsilon 1e-5, TF-GAN's root in "
    "float32; 256 videos",
    "read",
    num_a=256, num_b=256, resize="short_side_crop", bn_eps=1e-5, root="tfgan_float32",
  ),
  "cdfvd": Preset(
    "cd-fvd's I3D: whole frame, half-pixel, epsilon 1e-5, covariances with n",
    "read",
    num_a=2048, num_b=2048, resize="half_pixel", bn_eps=1e-5, ddof=0, root="sqrtm",
  ),
  "vdm-bair": Preset(
    "VDM, BAIR 64x64, 1 frame given, 15 predicted; 100 samples of each of the 256 test "
    "clips in one distance, as FitVid; that the given frame does not count is FitVid's",
    "said", "66.92 (Langevin, 256 steps), 68.19 (ancestral, 512 steps)", **_FITVID,
  ),
  "vdm-k600": Preset(
    "VDM, Kinetics-600 64x64, 5 frames given, 11 predicted; 50,000 test videos, random "
    "windows that are both conditioning and reference; that all 16 frames count is "
    "recalled",
    "recalled", "16.2 +- 0.34 (Langevin, 128 steps), 18.6 (ancestral, 256 steps)",
    num_a=50_000, num_b=50_000, window="random",
  ),
  "vdm-ucf101": Preset(
    "VDM, UCF-101 16x64x64: Frechet distance of C3D's 4096 features (its \"FID\") and "
    "Inception score; 10,000 samples against the training videos; the number of splits "
    "is recalled",
    "recalled", "FID 295 +- 3, IS 57 +- 0.62 (real 60.2)",
    num_a=10_000, window="random", network="c3d", inception_splits=1,
  ),
  "fdm-carla": Preset(
    "FDM, CARLA: 100 whole videos of 1000 frames, the 36 given ones included, in one "
    "pass of the network",
    "read", "124 (hierarchy-2), 246 (autoreg): the released checkpoint",
    num_frames=1000, **_FDM,
  ),
  "fdm-mazes": Preset(
    "FDM, GQN mazes: 100 whole videos of 300 frames, the 36 given ones included",
    "read", num_frames=300, **_FDM,
  ),
  "fdm-minerl": Preset(
    "FDM, MineRL: 100 whole videos of 500 frames, the 36 given ones included",
    "read", num_frames=500, **_FDM,
  ),
  "ramvid-bair": Preset(
    "RaMViD, BAIR, 1 frame given, 15 predicted; as FitVid. The author reports the same "
    "value by VideoGPT's code; an outside attempt by MCVD's got twice as much",
    "said", "84.20", **_FITVID,
  ),
  "ramvid-k600": Preset(
    "RaMViD, Kinetics-600, 5 frames given, 11 predicted; the counts are recalled",
    "recalled", "16.46", num_a=50_000, num_b=50_000,
  ),
  "ramvid-ucf101": Preset(
    "RaMViD, UCF-101, 16 frames, unconditional; the counts are recalled",
    "recalled", num_a=10_000, num_b=10_000,
  ),
  "rvd": Preset(
    "RVD: 4 frames given, 16 predicted, 50 clips; no evaluation code is public, the "
    "resizing and that predicted frames alone count are recalled",
    "recalled", num_a=50, num_b=50, include_conditioning=False,
  ),
  "mcvd-smmnist": Preset(
    "MCVD, moving MNIST: 5 given, 10 predicted; 10 predictions a clip against the real "
    "clips, given frames included; 256 clips is said by third parties",
    "said", num_frames=15, **_MCVD,
  ),
  "mcvd-kth": Preset(
    "MCVD, KTH: 10 given, 20 predicted, given frames included",
    "said", num_frames=30, **_MCVD,
  ),
  "mcvd-bair": Preset(
    "MCVD, BAIR: 1 given, 15 predicted, the given frame included",
    "said", num_frames=16, **_MCVD,
  ),
  "mcvd-cityscapes": Preset(
    "MCVD, Cityscapes: 2 given, 28 predicted, given frames included",
    "said", num_frames=30, **_MCVD,
  ),
  "mcvd-ucf101": Preset(
    "MCVD, UCF-101: 4 given, 16 predicted, given frames included",
    "said", num_frames=20, **_MCVD,
  ),
}  # fmt: skip
DEFAULT = "tfhub"


def find(name: str) -> Preset:
  """Finds a preset by its name; '' is the default.

  Raises:
    UserError: there is no such preset.
  """
  name = name or DEFAULT
  if name not in PRESETS:
    raise unknown("`preset`", name, PRESETS)
  return PRESETS[name]
