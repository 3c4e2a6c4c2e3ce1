"""Agreement of processes, of which a second one is made up here."""

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from vdm_jax import processes
from vdm_jax.errors import UserError


@pytest.fixture
def other(monkeypatch):
  """Sets what the second process says, as facts."""
  monkeypatch.setattr(jax, "process_count", lambda: 2)

  def said_with(facts):
    said = []
    monkeypatch.setattr(
      multihost_utils,
      "process_allgather",
      lambda mine: (said.append(mine), np.stack([mine, mine]))[1],
    )
    processes.agree(facts)
    answers = iter(said)

    def gather(mine):
      theirs = next(answers)
      assert mine.shape == theirs.shape, "a collective of two shapes hangs"
      return np.stack([mine, theirs])

    monkeypatch.setattr(multihost_utils, "process_allgather", gather)

  return said_with


def test_equal_facts_in_any_order_are_agreed_on(other):
  other({"config": {"a": 1}, "jax": "1"})
  processes.agree({"jax": "1", "config": {"a": 1}})


def test_another_fact_is_named(other):
  other({"config": {"a": 1}, "config.data": "x"})
  with pytest.raises(UserError, match="^config.data: process 1 has another one"):
    processes.agree({"config": {"a": 1}, "config.data": "y"})


def test_a_library_that_compares_other_facts_is_another_installation(other):
  other({"config": 1, "jax": "1", "flax": "1"})
  with pytest.raises(UserError, match="^the installation: process 1 has another one"):
    processes.agree({"config": 1, "jax": "1"})


def test_versions_are_among_the_facts(monkeypatch, other):
  other(processes.installation())
  version = processes.metadata.version
  monkeypatch.setattr(
    processes.metadata, "version", lambda n: "0" if n == "flax" else version(n)
  )
  with pytest.raises(UserError, match="^flax: process 1 has another one"):
    processes.agree(processes.installation())


def test_a_folder_that_appears_late_is_seen(monkeypatch, tmp_path):
  """As on a network file system that remembers for a while what was not there."""
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  monkeypatch.setattr(processes, "wait", lambda name: None)
  monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", lambda x: x)
  monkeypatch.setattr(multihost_utils, "process_allgather", lambda x: np.stack([x, x]))
  looks, kind = [], type(processes.epath.Path(tmp_path))
  real = kind.exists

  def exists(path):
    looks.append(path)
    return len(looks) > 2 and real(path)

  monkeypatch.setattr(kind, "exists", exists)
  processes.check_shared(str(tmp_path / "run"))
  assert len(looks) == 3
