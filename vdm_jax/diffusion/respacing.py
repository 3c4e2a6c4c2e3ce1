"""Respacing: the steps of a long schedule that a sampler keeps."""

from vdm_jax.errors import UserError


def retained_steps(num_steps: int, spec: str | int) -> list[int]:
  """Lists the steps that a respacing keeps, as improved-diffusion does.

  Args:
    num_steps: length of the schedule.
    spec: "" keeps all steps; "a,b,c" cuts the schedule into equal sections, of which
      the first keeps `a` evenly spaced steps and so on; "ddimK" keeps every i-th step,
      with the smallest i that gives K of them.

  Returns:
    The steps kept, in increasing order.

  Raises:
    UserError: `spec` is malformed or cannot be met.
  """
  spec = str(spec)
  if not spec:
    return list(range(num_steps))
  try:
    counts = [int(count) for count in spec.removeprefix("ddim").split(",")]
  except ValueError:
    raise UserError(
      f"respacing: expected '', '250', '10,15,20' or 'ddim50', found {spec!r}"
    ) from None
  if spec.startswith("ddim"):
    for stride in range(1, num_steps):
      if [len(range(0, num_steps, stride))] == counts:
        return list(range(0, num_steps, stride))
    raise UserError(f"respacing: no stride keeps {spec!r} of {num_steps} steps")
  size, longer = divmod(num_steps, len(counts))
  steps, start = [], 0
  for section, count in enumerate(counts):
    length = size + (section < longer)
    if not 1 <= count <= length:
      raise UserError(
        f"respacing: {spec!r} asks for {count} steps of a section of {length}"
      )
    stride = (length - 1) / (count - 1) if count > 1 else 1.0
    # Accumulated and rounded half to even, as published checkpoints were tuned with.
    position = 0.0
    for _ in range(count):
      steps.append(start + round(position))
      position += stride
    start += length
  return steps
