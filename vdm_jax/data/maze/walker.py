"""A walker that explores a maze smoothly: where to turn and how fast to go.

Route: from a cell it goes on to the neighbour it has visited least, chance deciding
between equals, and turns back only in a dead end. So it sees the whole maze, and
comes back to places it knows.

Steering is pure pursuit: it turns towards the point of its route that lies a
look-ahead away. Rate and acceleration of the turn are bounded, and it slows down
while it looks elsewhere than it wants to go.
"""

import math
from collections import Counter, deque

import numpy as np

from vdm_jax.data.maze import layout as layout_lib

_LOOK_AHEAD = 64.0  # Map units.
_SPACING = 4.0  # Of the points of the route, map units.
_STRAY = 16.0  # How far from the middle of a cell the route may pass, map units.
_MAX_RATE = 4.0  # Degrees a tic.
_MAX_ACCELERATION = 0.5  # Degrees a tic a tic.
_GAIN = 0.15  # Of the heading error, turned a tic.
_SPEED = (8.0, 11.0)  # The game's unit for thrust: 9 makes 3 map units a tic.


class Walker:
  """One walk; the same for equal (layout, state of rng).

  Attributes:
    start: (x, y) where it begins, map units.
    heading: whole degrees, counter-clockwise from east, towards its first passage.
  """

  def __init__(self, layout: layout_lib.Layout, rng: np.random.Generator):
    self._layout, self._rng = layout, rng
    self._cell = tuple(rng.integers(layout.cells, size=2).tolist())
    self._came_from: layout_lib.Cell | None = None
    self._visits = Counter([self._cell])
    self._speed = rng.uniform(*_SPEED)
    self._rate = 0.0
    self._last = layout.centre(self._cell)
    self._route: deque[np.ndarray] = deque()
    self._extend()
    self.start = tuple(layout.centre(self._came_from).tolist())
    ahead = self._route[-1] - self._route[0]
    self.heading = round(math.degrees(math.atan2(ahead[1], ahead[0])))

  def steer(self, x: float, y: float, heading: float) -> tuple[float, float]:
    """(turn to the left in degrees, thrust) for the next tic.

    Args:
      x, y: where it is, map units.
      heading: where it looks, degrees counter-clockwise from east.
    """
    target = self._target(np.array([x, y]))
    wanted = math.degrees(math.atan2(target[1] - y, target[0] - x))
    error = (wanted - heading + 180) % 360 - 180
    # No faster than can be braked before the error is gone.
    brake = math.sqrt(2 * _MAX_ACCELERATION * abs(error))
    size = min(_MAX_RATE, _GAIN * abs(error), brake)
    change = math.copysign(size, error) - self._rate
    self._rate += min(max(change, -_MAX_ACCELERATION), _MAX_ACCELERATION)
    return self._rate, self._speed * max(0.0, math.cos(math.radians(error))) ** 2

  def _target(self, position: np.ndarray) -> np.ndarray:
    """The first point of the route that is a look-ahead away."""
    while True:
      while self._route:
        if np.hypot(*(self._route[0] - position)) >= _LOOK_AHEAD:
          return self._route[0]
        self._route.popleft()
      self._extend()

  def _extend(self) -> None:
    """Goes on to the next cell."""
    exits = self._layout.exits(self._cell)
    ways = [cell for cell in exits if cell != self._came_from] or exits
    least = min(self._visits[cell] for cell in ways)
    ways = [cell for cell in ways if self._visits[cell] == least]
    self._came_from, self._cell = self._cell, ways[self._rng.integers(len(ways))]
    self._visits[self._cell] += 1
    end = self._layout.centre(self._cell) + self._rng.uniform(-_STRAY, _STRAY, 2)
    count = math.ceil(np.hypot(*(end - self._last)) / _SPACING)
    steps = np.arange(1, count + 1)[:, None] / count
    self._route.extend(self._last + steps * (end - self._last))
    self._last = end
