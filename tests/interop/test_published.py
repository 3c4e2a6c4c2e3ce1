"""Files in the authors' layouts, with random weights, from `.pt` to a finished run."""

import json
import runpy

import jax
import numpy as np
import PIL.Image
import pytest

from tests.interop.published import (
  SIZE,
  SMALL,
  empty,
  examine,
  fdm_layout,
  network_shapes,
  ramvid_layout,
  small_rvd,
)
from vdm_jax import experiment, sampling
from vdm_jax.data import records
from vdm_jax.data.builders import video_folder
from vdm_jax.errors import UserError
from vdm_jax.interop import rvd, workdir
from vdm_jax.models import rvd as rvd_model
from vdm_jax.storage import workdirs

torch = pytest.importorskip("torch")


class TestFullSize:
  """Names and shapes of the released models; nothing of their size is made."""

  @pytest.mark.parametrize("name", ["carla128_readme_command", "mazes64_defaults"])
  def test_fdm(self, tmp_path, name):
    config, shapes, parameters = fdm_layout(name)
    path = tmp_path / "ema_0.9999_550000.pt"
    torch.save({"state_dict": empty(shapes), "config": config, "step": 550000}, path)
    examined = examine("fdm", path, shapes_only=True)
    assert not examined.comparison
    assert examined.num_parameters == parameters
    assert examined.num_arrays == len(shapes)
    assert examined.published.step == 550_000 and examined.published.ema == "0.9999"
    assert examined.config["train"]["ema"] == (0.9999,)
    for other in ("ramvid", "rvd"):
      with pytest.raises(UserError, match="it looks like FDM"):
        examine(other, path, shapes_only=True)

  @pytest.mark.parametrize(
    "dataset, name, parameters",
    [
      ("kinetics600", "kinetics600_and_ucf101_readme", 308_343_427),
      ("ucf101", "kinetics600_and_ucf101_readme", 308_343_427),
      ("bair", "bair_readme", 235_071_875),
    ],
  )
  def test_ramvid(self, tmp_path, dataset, name, parameters):
    shapes, _ = ramvid_layout(name)
    path = tmp_path / "ema_0.9999_250000.pt"
    torch.save(empty(shapes), path)
    examined = examine("ramvid", path, shapes_only=True, dataset=dataset)
    assert not examined.comparison
    assert examined.num_parameters == parameters
    assert examined.num_arrays == len(shapes)
    assert examined.published.step == 250_000
    assert examined.sources["model.channels"] == "shapes"
    assert examined.sources["model.num_heads"] == "preset"
    with pytest.raises(UserError, match="it looks like RaMViD"):
      examine("fdm", path, shapes_only=True, dataset=dataset)

  @pytest.mark.parametrize(
    "height, parameters, arrays", [(64, 37_611_414, 416), (128, 43_613_702, 558)]
  )
  def test_rvd(self, tmp_path, height, parameters, arrays):
    fields = next(f for heights, f in rvd.PRESETS.items() if height in heights)
    settings = rvd_model.RvdSettings(**fields)
    network = rvd_model.RvdNetwork(settings)
    shapes = network_shapes(network, rvd.entries(settings), height)
    shapes |= dict.fromkeys(rvd.TABLES, (1600,))
    assert len(shapes) == arrays
    path = tmp_path / "published.pt"
    torch.save({"step": 5, "model": empty(shapes), "ema": empty(shapes)}, path)
    asked = {"data.frame_shape": (height, height, 3)}
    examined = examine("rvd", path, shapes_only=True, asked=asked)
    assert not examined.comparison
    assert examined.num_parameters == parameters
    with pytest.raises(UserError, match="it looks like RVD"):
      examine("fdm", path, shapes_only=True)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  """A data set of ten videos of ten frames."""
  root = tmp_path_factory.mktemp("published")
  rng = np.random.default_rng(0)
  for number in range(10):
    folder = root / "films" / f"film_{number}"
    folder.mkdir(parents=True)
    for frame in range(10):
      pixels = rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
      PIL.Image.fromarray(pixels).save(folder / f"{frame}.png")
  options = {"name": "films", "path": str(root / "films"), "image_size": str(SIZE)}
  options |= {"validation": 0.2, "test": 0.2}
  config = video_folder.VideoFolderConfig(**options)
  records.build(video_folder.VideoFolder, config, root / "data")
  return str(root / "data")


@pytest.mark.slow
@pytest.mark.parametrize("system", SMALL)
def test_from_file_to_fine_tuned_run(system, data_dir, tmp_path, capsys):
  small = SMALL[system]()
  path, out = tmp_path / small.name, tmp_path / "imported"
  torch.save(small.contents, path)
  examined = examine(system, path, asked=small.asked)
  workdir.write(examined, str(out))

  # It samples, and the given frames are in their places.
  model = sampling.load(str(out))
  assert model.info["step"] == 3
  for places in small.given:
    given = np.zeros((len(places), SIZE, SIZE, 3), np.float32) if places else None
    videos = model.sample(
      1, steps=2, length=small.length, given=given, given_frames=places
    )
    assert np.isfinite(videos).all() and np.abs(videos).max() > 0
    if places:
      np.testing.assert_array_equal(videos[0, list(places)], given)

  # The config file beside it trains on, from these weights.
  found = runpy.run_path(str(out / "config.py"))["get_config"]()
  config = json.loads(found.to_json_best_effort())
  config["data"] |= {"name": "video_folder/films", "data_dir": data_dir}
  config["train"] |= {"num_steps": 2, "eval_every": 2, "eval_batches": 1}
  config["train"] |= {"sample_every": 0, "num_samples": 0}
  capsys.readouterr()
  tuned = str(tmp_path / "tuned")
  result = experiment.train(config, tuned, init_from=str(out))
  assert result.reason == "steps"
  total = examined.num_arrays
  assert f"{total} of {total} arrays taken" in capsys.readouterr().out

  # What was saved is what was trained, and close to where it came from.
  params, info = workdirs.read_weights(tuned)
  assert info["step"] == 2
  name = str(config["train"]["ema"][0])
  trained = jax.device_get(result.state.ema[name])
  jax.tree.map(np.testing.assert_array_equal, params, trained)
  before, after = jax.device_get((model.params, params))
  moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), before, after)
  assert 0 < max(jax.tree.leaves(moved)) < 0.01
  config["train"]["num_steps"] = 3
  assert int(experiment.train(config, tuned).state.step) == 3


@pytest.mark.parametrize("system", SMALL)
def test_keys_that_do_not_fit_are_listed(system, tmp_path):
  small = SMALL[system]()
  contents = small.contents
  state = {"fdm": "state_dict", "rvd": "ema"}.get(system)
  state = contents if state is None else contents[state]
  keys = [key for key in state if key.endswith("bias")]
  del state[keys[1]]
  state[keys[2]] = torch.zeros(1)
  state["surplus.weight"] = torch.zeros(1)
  path = tmp_path / small.name
  torch.save(contents, path)
  examined = examine(system, path, shapes_only=True, asked=small.asked)
  assert examined.comparison.missing == [keys[1]]
  assert examined.comparison.unexpected == ["surplus.weight"]
  (line,) = examined.comparison.misshaped
  assert line.startswith(f"{keys[2]}: expected (") and line.endswith("found (1,)")


def test_raw_parameters_beside_averages(tmp_path):
  small = small_rvd()
  path = tmp_path / small.name
  torch.save(small.contents, path)
  ema = examine("rvd", path, asked=small.asked)
  raw = examine("rvd", path, asked=small.asked, raw=True)
  assert raw.published.ema is None and ema.published.ema is not None
  key = "transform_fn.mu.weight"
  for examined, name in ((ema, "ema"), (raw, "model")):
    expected = small.contents[name][key].detach().numpy()
    np.testing.assert_array_equal(np.asarray(examined.published.state[key]), expected)
