"""The image and what runs it: what a machine without docker can check."""

import fnmatch
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import yaml
from absl import flags

pytestmark = pytest.mark.integration

FOLDERS = {"vdm_jax", "configs", "launch", "benchmarks"}


def instructions(checkout):
  """The Dockerfile as [(instruction, rest)], lines joined."""
  text = (checkout / "launch" / "Dockerfile").read_text()
  text = re.sub(r"^#.*\n", "", text, flags=re.M).replace("\\\n", " ")
  return [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]


def sent(checkout):
  """The files of the checkout that `docker build` sends, by .dockerignore."""
  rules = (checkout / ".dockerignore").read_text().splitlines()
  rules = [rule for rule in rules if rule and not rule.startswith("#")]
  listed = subprocess.run(
    ["git", "ls-files", "--cached", "--others"],
    cwd=checkout, capture_output=True, text=True, check=True,
  ).stdout.splitlines()  # fmt: skip

  def ignored(path):
    parts = path.split("/")
    found = False
    for rule in rules:
      keep, pattern = rule.startswith("!"), rule.lstrip("!")
      heads = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
      if pattern.startswith("**/"):
        pattern, heads = pattern[3:], parts
      # A `*` of docker's stops at a slash.
      if any(
        head.count("/") == pattern.count("/") and fnmatch.fnmatch(head, pattern)
        for head in heads
      ):
        found = not keep
    return found

  return [path for path in listed if not ignored(path)]


def test_the_image_is_pinned_and_nobody_is_root(checkout):
  lines = instructions(checkout)
  (base,) = [rest for name, rest in lines if rest.startswith("BASE=")]
  assert re.fullmatch(r"BASE=python:3\.\d+\.\d+-slim-\w+", base)
  names = [name for name, _ in lines]
  assert dict(lines)["USER"] == "${USER_ID}"
  assert names.index("USER") < names.index("COPY") < names.index("ENTRYPOINT")
  assert "-c constraints.txt" in dict(lines)["RUN"]
  for name, rest in lines:
    assert name != "COPY" or rest.startswith("--chown=vdm:vdm ")


def test_the_context_is_small_and_whole(checkout):
  files = sent(checkout)
  folders = {path.partition("/")[0] for path in files if "/" in path}
  assert folders == FOLDERS
  for name in ("setup.py", "constraints.txt", "pyproject.toml", "README.md"):
    assert name in files
  assert "configs/vdm_ucf101.py" in files and "vdm_jax/cli/main.py" in files
  assert not [path for path in files if path.endswith(".pyc") or ".git" in path]
  assert sum((checkout / path).stat().st_size for path in files) < 5 << 20
  for name, rest in instructions(checkout):
    if name == "COPY":
      for source in rest.split()[1:-1]:
        assert source == "." or source in files


def checked(name, *files):
  """Runs a checker that the extra `test` brings; what it finds fault with."""
  folder = os.path.dirname(sys.executable)
  tool = shutil.which(name, path=f"{folder}:{os.environ['PATH']}")
  if tool is None:
    pytest.skip(f"{name} is not installed")
  done = subprocess.run([tool, *files], capture_output=True, text=True)
  assert done.returncode == 0, done.stdout


def test_hadolint(checkout):
  checked("hadolint", checkout / "launch" / "Dockerfile")


def test_shellcheck(checkout):
  scripts = [*checkout.glob("launch/*.sh"), *checkout.glob("launch/*.sbatch")]
  checked("shellcheck", *scripts, checkout / ".ci" / "run")


@pytest.mark.integration
def test_its_steps_build_an_environment_in_a_plain_folder(checkout, tmp_path):
  """COPY, RUN and the command, with a folder for the image's root; CPU for TPU."""
  app, settings = tmp_path / "app", {"EXTRAS": "video", "USER_ID": "1000"}
  app.mkdir()
  # The Python that runs this is the base.
  env = {
    **os.environ,
    "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
  }
  env = {k: v for k, v in env.items() if not k.startswith("PYTHON")}
  for name, rest in instructions(checkout):
    if name == "COPY":
      *sources, target = rest.split()[1:]
      files = sent(checkout) if sources == ["."] else sources
      for file in files:
        to = app / (target if len(files) == 1 and "/" in target else file)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(checkout / file, to, follow_symlinks=False)
    elif name == "RUN" and "useradd" not in rest:
      subprocess.run(["sh", "-ec", rest], cwd=app, env={**env, **settings}, check=True)
  entry = app / ".venv" / "bin" / "vdm-jax"
  data = {"VDM_JAX_DATA": str(tmp_path / "data"), "JAX_PLATFORMS": "cpu"}
  for command in (
    ["doctor"],
    ["train", "--config=configs/debug.py", f"--workdir={tmp_path / 'run'}",
     "--config.train.num_steps=2", "--config.train.num_samples=0"],
  ):  # fmt: skip
    done = subprocess.run(
      [entry, *command], cwd=app, env={**env, **data}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
  assert "all steps done: step 2" in done.stdout


@pytest.mark.parametrize("name", ["kubernetes.yaml", "kubernetes_gpu.yaml"])
def test_a_job_set_says_what_the_command_takes(checkout, name):
  (job_set,) = yaml.safe_load_all((checkout / "launch" / name).read_text())
  assert job_set["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
  assert job_set["spec"]["failurePolicy"]["maxRestarts"] > 0
  (job,) = job_set["spec"]["replicatedJobs"]
  spec = job["template"]["spec"]
  assert spec["parallelism"] == spec["completions"]
  assert spec["completionMode"] == "Indexed" and spec["backoffLimit"] == 0
  pod = spec["template"]["spec"]
  assert pod["restartPolicy"] == "Never"
  (container,) = pod["containers"]
  volumes = {volume["name"] for volume in pod["volumes"]}
  assert {mount["name"] for mount in container["volumeMounts"]} == volumes
  command = container["command"]
  assert command[:2] == ["vdm-jax", "train"]
  config = checkout / dict(flag.split("=") for flag in command[2:4])["--config"]
  assert config.exists()
  from vdm_jax.cli import distributed, train  # noqa: F401 They define the flags.

  for flag in command[2:]:
    flag = flag.partition("=")[0].removeprefix("--")
    assert flag.startswith("config.") or flag in flags.FLAGS, flag
  slice_ = pod.get("nodeSelector", {}).get("cloud.google.com/gke-tpu-topology")
  if slice_:
    chips = eval(slice_.replace("x", "*"))
    hosts = chips // container["resources"]["limits"]["google.com/tpu"]
    assert hosts == spec["parallelism"]
  else:
    said = dict(flag.split("=") for flag in command[2:] if "=" in flag)
    assert int(said["--num_processes"]) == spec["parallelism"]
    name = f"{job_set['metadata']['name']}-{job['name']}-0-0"
    assert said["--coordinator"].startswith(f"{name}.{job_set['metadata']['name']}:")
    assert said["--process_id"] == "$(JOB_COMPLETION_INDEX)"


def test_the_xpk_command_of_the_readme_is_whole(checkout):
  text = (checkout / "launch" / "README.md").read_text().replace("\\\n", " ")
  (command,) = re.findall(r"^ +(xpk workload create .*)$", text, re.M)
  words = shlex.split(command)
  told = dict(word.split("=", 1) for word in words[3:])
  assert {"--cluster", "--workload", "--tpu-type", "--docker-image"} <= set(told)
  # xpk does not restart what ends with 75 by itself.
  assert told["--restart-on-exit-codes"] == "75" and int(told["--max-restarts"]) > 0
  assert told["--command"].startswith("vdm-jax train ")
