"""Systems of the user's own: named by a config, registered, refused."""

import numpy as np
import pytest

import vdm_jax as vdm
from tests.helpers import load_config
from vdm_jax import systems
from vdm_jax.errors import UserError

MINE = """
from vdm_jax.systems import vdm as paper

nothing = None


def build(config):
  return paper.build(config)


def forgets(config):
  paper.build(config)


class Trains:
  task = cond = None
  pipeline_cond = pipeline_extras = ()
  can_sample = False
  batch_spec = init = loss = print


class Samples(Trains):
  can_sample = True
  encode = denoiser = noise = print


def trains(config):
  return Trains()


def samples(config):
  return Samples()
"""


@pytest.fixture
def mine(tmp_path):
  path = tmp_path / "my_system.py"
  path.write_text(MINE)
  return str(path)


def test_a_function_in_a_file_or_a_module_is_a_system(mine, tmp_path, monkeypatch):
  built_in = systems.build(load_config())
  assert systems.build(load_config(system=f"{mine}:build")).task == built_in.task
  monkeypatch.syspath_prepend(tmp_path)
  assert systems.build(load_config(system="my_system:build")).task == built_in.task


def test_a_system_that_does_not_sample_needs_only_what_training_needs(mine):
  assert not systems.build(load_config(system=f"{mine}:trains")).can_sample


def test_a_registered_name_is_a_system():
  systems.register("mine", lambda config: systems.build({**config, "system": "vdm"}))
  assert systems.build(load_config(system="mine")).can_sample


@pytest.mark.parametrize("name", ["debug", "fdm_digits", "ramvid_digits"])
def test_what_sampling_needs_of_a_task_is_asked_of_any(name):
  whole, config = load_config(name), load_config(name)
  assert systems.build(whole).window == systems.build(whole).task.window
  config["task"] = {
    "name": "past_future", "num_past": 3, "num_current": 5, "stride": 2
  }  # fmt: skip
  system = systems.build(config)
  assert (system.window, system.stride, system.min_given) == (8, 2, 3)


@pytest.mark.parametrize(
  "name, needed",
  [
    ("debug", {"model.cond_drop", "task.num_images", "diffusion.schedule"}),
    ("fdm_digits", {"model.channels", "task.max_frames", "plan.name"}),
    ("ramvid_digits", {"model.cond_drop", "task.num_frames", "plan.name"}),
    ("rvd_digits", {"model.channels", "task.num_frames", "diffusion.predict"}),
    ("position_regressor_maze", {"model.bounds", "model.cells", "model.blur"}),
  ],
)
def test_a_field_that_is_missing_has_a_default_or_is_named(name, needed):
  whole, missing = load_config(name), set()
  for section in ("model", "task", "diffusion", "plan"):
    for field in whole.get(section, {}):
      rest = {k: v for k, v in whole[section].items() if k != field}
      try:
        systems.build({**whole, section: rest})
      except UserError as error:
        # Else its default does not fit the other fields.
        if str(error) == f"config.{section}.{field}: missing":
          missing.add(f"{section}.{field}")
  assert missing > needed | {"task.name"}
  with pytest.raises(UserError, match="config.system: missing"):
    systems.build({k: v for k, v in whole.items() if k != "system"})


@pytest.mark.integration
def test_a_run_finds_its_system_in_another_folder(mine, tmp_path, monkeypatch):
  config = vdm.configs.get(
    "debug",
    system=f"{mine}:build",
    data={"data_dir": str(tmp_path / "data")},
    train={"num_steps": 1, "num_samples": 0, "eval_batches": 0},
  )
  run = str(tmp_path / "run")
  vdm.train(config, run)
  (tmp_path / "elsewhere").mkdir()
  monkeypatch.chdir(tmp_path / "elsewhere")
  assert np.isfinite(vdm.load(run).sample(1, steps=2)).all()
  (tmp_path / "my_system.py").unlink()
  with pytest.raises(UserError, match=r"cannot import '.*my_system.py'.*no such file"):
    vdm.load(run)


@pytest.mark.parametrize(
  "name, message",
  [
    ("vdmm", "unknown system .*'vdmm'. Did you mean 'vdm'"),
    ("mine.py:build", r"cannot import 'mine.py' .*no such file: /.*mine.py"),
    ("no_such_module:build", "cannot import 'no_such_module'"),
    ("MINE:bild", "Did you mean 'build'"),
    ("MINE:nothing", "expected a function of the config, but .* is of type NoneType"),
    (
      "MINE:forgets",
      "return a system, found a NoneType without task, cond, pipeline_cond, "
      "pipeline_extras, can_sample, batch_spec, init, loss$",
    ),
    (
      "MINE:samples",
      "found a Samples without frame_shape, schedule, .*, plan, plan_options, score$",
    ),
  ],
)
def test_mistakes_are_named(mine, name, message):
  with pytest.raises(UserError, match=message):
    systems.build(load_config(system=name.replace("MINE", mine)))
