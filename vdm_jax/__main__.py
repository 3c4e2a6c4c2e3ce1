"""`python -m vdm_jax COMMAND`, as `vdm-jax COMMAND`."""

from vdm_jax.cli import main

if __name__ == "__main__":
  main.run()
