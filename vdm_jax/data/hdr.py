"""Conversion of videos of high dynamic range for ordinary screens.

PQ and HLG (ITU-R BT.2100) encode far more light than ordinary videos, so that their
code values, used directly, look pale and dark. Graphics white (203 candela per square
metre, BT.2408) becomes nearly white, brighter light is compressed into the rest, and
colours beyond BT.709 are clipped.
"""

import numpy as np

PQ, HLG = 16, 18  # Transfer characteristics as FFmpeg numbers them.
_WHITE, _PEAK = 203.0, 1000.0  # Candela per square metre; the peak of HLG's screen.
_KNEE = 0.75  # Light, as a fraction of white, up to which it is kept.
_GAMMA = 2.4  # Gamma of an ordinary screen.
# Converts BT.2020 to BT.709 primaries (BT.2087).
_PRIMARIES = np.array(
  [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
  np.float32,
)


def to_sdr(pixels: np.ndarray, transfer: int) -> np.ndarray:
  """Tone-maps a picture.

  Args:
    pixels: uint8 [H, W, 3], encoded with BT.2020 primaries.
    transfer: transfer characteristic, PQ or HLG.

  Returns:
    uint8 [H, W, 3] for a screen with BT.709 primaries.
  """
  codes = np.arange(256) / 255
  light = (_pq(codes) if transfer == PQ else _hlg(codes)).astype(np.float32)[pixels]
  if transfer == HLG:  # Applies the curve of its screen, by luminance.
    luminance = light @ np.array([0.2627, 0.6780, 0.0593], np.float32)
    light *= _PEAK / _WHITE * luminance[..., None] ** 0.2
  light = np.maximum(light @ _PRIMARIES.T, 0)
  brightest = np.maximum(light.max(-1, keepdims=True), 1e-6)
  beyond = np.maximum(brightest - _KNEE, 0)
  rest = 1 - _KNEE
  shown = np.minimum(brightest, _KNEE) + rest * beyond / (beyond + rest)
  return np.rint(255 * (light * (shown / brightest)) ** (1 / _GAMMA)).astype(np.uint8)


def _pq(codes: np.ndarray) -> np.ndarray:
  """Converts PQ's codes in [0, 1] to light, as a fraction of white."""
  root = codes ** (32 / 2523)
  ratio = np.maximum(root - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * root)
  return 10_000 / _WHITE * ratio ** (8192 / 1305)


def _hlg(codes: np.ndarray) -> np.ndarray:
  """Converts HLG's codes to light of the scene, in [0, 1]."""
  a, b, c = 0.17883277, 0.28466892, 0.55991073
  return np.where(codes <= 0.5, codes**2 / 3, (np.exp((codes - c) / a) + b) / 12)
