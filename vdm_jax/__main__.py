"""Runs the command line: `python -m vdm_jax COMMAND` is `vdm-jax COMMAND`."""

from vdm_jax.cli import main

if __name__ == "__main__":
  main.run()
