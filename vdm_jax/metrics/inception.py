"""The Inception score, which is high if predictions are certain and differ.

    IS = exp(mean KL(p || mean p))

over the class probabilities p of a classifier. It grows with the number of samples in a
split, so always state both.
"""

import numpy as np
import scipy.special
from jaxtyping import Float, Float64


def scores(
  logits: Float[np.ndarray, "n classes"], splits: int = 1
) -> Float64[np.ndarray, " {splits}"]:
  """Scores each of `splits` consecutive parts of logits.

  Raises:
    ValueError: shapes do not fit, or there are fewer logits than splits.
  """
  logits = np.asarray(logits, np.float64)
  if logits.ndim != 2 or not 1 <= splits <= len(logits):
    raise ValueError(f"logits {logits.shape}: expected [N >= {splits}, classes]")
  size = len(logits) // splits
  found = []
  for part in np.split(logits[: size * splits], splits):
    # Computed from logits, as a probability that underflows would give 0 log 0.
    log_p = scipy.special.log_softmax(part, axis=1)
    log_mean = scipy.special.logsumexp(log_p, axis=0) - np.log(len(part))
    kl = np.sum(np.exp(log_p) * (log_p - log_mean), axis=1)
    found.append(np.exp(kl.mean()))
  return np.array(found)
