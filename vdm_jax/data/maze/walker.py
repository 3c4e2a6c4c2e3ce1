"""A walker that explores a maze smoothly: its route, its turns and its speed.

Route: from each cell it moves to its least visited neighbour, with ties broken at
random, and turns back only in a dead end. So it sees the whole maze and returns to
known places.

Steering is pure pursuit: it turns towards the point of its route at a look-ahead
distance. Rate and acceleration of turns are bounded, and it slows down while its
heading differs from the route.
"""

import math
from collections import Counter, deque

import numpy as np

from vdm_jax.data.maze import layout as layout_lib

_LOOK_AHEAD = 64.0  # Look-ahead distance, in map units.
_SPACING = 4.0  # Spacing of the points of the route, in map units.
_STRAY = 16.0  # Largest distance of the route from the middle of a cell, in map units.
_MAX_RATE = 4.0  # Degrees per tic.
_MAX_ACCELERATION = 0.5  # Degrees per tic squared.
_GAIN = 0.15  # Share of the heading error corrected per tic.
_SPEED = (8.0, 11.0)  # In the game's unit of thrust: 9 makes 3 map units per tic.


class Walker:
  """One walk, determined by the layout and the state of `rng`.

  Attributes:
    start: (x, y) of its beginning, in map units.
    heading: direction of its first passage, in whole degrees counter-clockwise from
      east.
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
    """Returns (turn to the left in degrees, thrust) for the next tic.

    Args:
      x, y: position in map units.
      heading: direction of view, in degrees counter-clockwise from east.
    """
    target = self._target(np.array([x, y]))
    wanted = math.degrees(math.atan2(target[1] - y, target[0] - x))
    error = (wanted - heading + 180) % 360 - 180
    # The turn must be able to stop once the error is corrected.
    brake = math.sqrt(2 * _MAX_ACCELERATION * abs(error))
    size = min(_MAX_RATE, _GAIN * abs(error), brake)
    change = math.copysign(size, error) - self._rate
    self._rate += min(max(change, -_MAX_ACCELERATION), _MAX_ACCELERATION)
    return self._rate, self._speed * max(0.0, math.cos(math.radians(error))) ** 2

  def _target(self, position: np.ndarray) -> np.ndarray:
    """Finds the first point of the route at look-ahead distance."""
    while True:
      while self._route:
        if np.hypot(*(self._route[0] - position)) >= _LOOK_AHEAD:
          return self._route[0]
        self._route.popleft()
      self._extend()

  def _extend(self) -> None:
    """Extends the route to the next cell."""
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
