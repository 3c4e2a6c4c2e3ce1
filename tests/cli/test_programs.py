"""Where compiled programs are kept."""

import jax
import pytest

from vdm_jax.cli import common


@pytest.fixture
def kept(monkeypatch, tmp_path):
  """Folder and size that JAX is told, by flag and by folder that processes share."""
  names = [
    "jax_compilation_cache_dir", "jax_compilation_cache_max_size",
    "jax_persistent_cache_min_compile_time_secs", "jax_enable_compilation_cache",
  ]  # fmt: skip
  before = {name: getattr(jax.config, name) for name in names}
  monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

  def kept(folder, shared):
    common._keep_programs(folder, shared)
    return jax.config.jax_compilation_cache_dir, (
      jax.config.jax_compilation_cache_max_size
    )

  yield kept
  for name, value in before.items():
    jax.config.update(name, value)


def test_one_process_keeps_them_in_the_users_cache_up_to_a_size(kept, tmp_path):
  folder, size = kept("", "")
  assert folder.startswith(f"{tmp_path}/vdm_jax/programs/") and size == 2 << 30


def test_several_keep_them_where_all_see_them_and_nothing_is_locked(kept):
  folder, size = kept("", "gs://bucket/run")
  assert folder.startswith("gs://bucket/run/programs/") and size == -1
  folder, size = kept("", "runs/a")
  assert folder.startswith("runs/a/programs/") and size == -1


def test_what_the_user_says_counts(kept, monkeypatch):
  assert kept("gs://bucket/programs", "runs/a") == ("gs://bucket/programs", -1)
  assert kept("here", "") == ("here", 2 << 30)
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "there")
  jax.config.update("jax_compilation_cache_dir", "there")
  assert kept("", "runs/a") == ("there", -1)
  kept("off", "runs/a")
  assert not jax.config.jax_enable_compilation_cache
