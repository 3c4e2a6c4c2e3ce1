"""Captions in sampling: of all videos or of each, and what guidance moves away from."""

import re

import jax
import numpy as np
import pytest

from tests import helpers
from tests.helpers import ROOT, vdm_jax
from vdm_jax import sampling, systems
from vdm_jax.data import text
from vdm_jax.errors import UserError
from vdm_jax.sampling import save

ENCODER = text.make_encoder("bytes:8", 12)


@pytest.fixture(scope="module")
def model():
  config = helpers.load_config(
    data={"text_encoder": "bytes:8", "max_tokens": 12},
    model={"num_labels": 0, "token_dim": 8},
    sampling={"steps": 3, "threshold": "none"},
  )
  system = systems.build(config)
  params = helpers.lively(jax.jit(system.init)(jax.random.key(0)))
  return sampling.Model(system, params, {"config": config, "step": 0})


def both(*captions):
  return tuple(map(np.stack, zip(*map(ENCODER, captions), strict=True)))


def test_each_video_has_its_caption(model):
  mixed = model.sample(2, tokens=both("left", "right"))
  for number, caption in enumerate(("left", "right")):
    alone = model.sample(2, tokens=ENCODER(caption))
    np.testing.assert_allclose(mixed[number], alone[number], atol=1e-5)
  assert np.abs(alone[0] - mixed[0]).max() > 1e-3


def test_guidance_moves_away_from_the_negative_caption(model):
  left, right = ENCODER("left"), ENCODER("right")
  plain = model.sample(1, tokens=left)
  # (1 + w) x - w x = x.
  same = model.sample(1, tokens=left, negative_tokens=left, guidance=2.0)
  np.testing.assert_allclose(same, plain, atol=1e-4)
  guided = model.sample(1, tokens=left, guidance=2.0)
  away = model.sample(1, tokens=left, negative_tokens=right, guidance=2.0)
  assert np.abs(away - guided).max() > 1e-3
  # No caption is what guidance moves away from by default.
  nothing = model.sample(1, tokens=left, negative_tokens=ENCODER(""), guidance=2.0)
  np.testing.assert_allclose(nothing, guided, atol=1e-4)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (
      dict(tokens=ENCODER("a"), negative_tokens=ENCODER("b")),
      "`guidance` weight above 0",
    ),
    (
      dict(negative_tokens=ENCODER("b"), guidance=0.0),
      "expected a caption .*`guidance`",
    ),
    (dict(tokens=both("a", "b", "c")), r"expected tokens of shape \(12, 8\), or 2"),
    (dict(tokens=text.make_encoder("bytes:6", 12)("a")), "found \\(12, 6\\)"),
  ],
)
def test_what_does_not_fit_is_named(model, options, message):
  with pytest.raises(UserError, match=message):
    model.sample(2, **options)


@pytest.mark.integration
def test_the_command(tmp_path):
  def command(*words, **options):
    return vdm_jax(*words, "--cpu_devices=1", cwd=tmp_path, data_dir=tmp_path / "data",
                   **options)  # fmt: skip

  command(
    "train", f"--config={ROOT / 'configs' / 'debug.py'}", "--workdir=run",
    "--config.model.num_labels=0", "--config.model.token_dim=8",
    "--config.data.text_encoder=bytes:8", "--config.data.max_tokens=12",
    "--config.train.num_steps=1", "--config.train.num_samples=0",
    "--config.sampling.steps=2",
  )  # fmt: skip
  (tmp_path / "captions.txt").write_text("a three moving left\n\nan eight\n")
  command("sample", "--workdir=run", "--captions=captions.txt", "--guidance=1",
          "--negative_caption=a zero", "--out=out")  # fmt: skip
  record = save.read_record(tmp_path / "out")
  assert record["caption"] == ["a three moving left", "an eight"]
  assert record["negative_caption"] == "a zero" and record["num_videos"] == 2
  for words, message in (
    (["--captions=captions.txt", "--num_videos=3"], "expected a multiple of the 2"),
    (["--captions=none.txt"], "--captions=none.txt: expected a text file"),
    (["--captions=captions.txt", "--caption=a"], "--caption and --captions: expected"),
    (["--caption=a", "--negative_caption=b"], "--negative_caption: .* weight above 0"),
  ):
    bad = command("sample", "--workdir=run", "--out=bad", *words, check=False)
    assert bad.returncode == 2
    assert re.search(message, bad.stderr), bad.stderr
