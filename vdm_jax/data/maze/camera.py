"""Renders walks with ViZDoom, without a display.

Every video has its own game, so that it depends only on its maze and its walker, not on
earlier videos. The game is a process that the calling thread waits for, so that threads
can render in parallel.
"""

import importlib
import os
import pathlib
import shlex
import tempfile
import threading

import numpy as np

from vdm_jax.data.maze import layout as layout_lib
from vdm_jax.data.maze import wad, walker
from vdm_jax.errors import UserError

TICS = 4  # Tics of the game per frame.
FPS = 35 / TICS  # Frames per second of the game's time.
SIZES = (16, 32, 64, 128)
_WARM_UP = 28  # Tics before the first frame, in which the walker accelerates.
# A program that is still open for writing cannot be started, and a process that another
# thread starts meanwhile keeps it open, so games start one at a time.
_STARTING = threading.Lock()
_UNSEEN = ("hud", "weapon", "crosshair", "decals", "particles", "messages")


def require() -> None:
  """Raises UserError if ViZDoom is not installed."""
  try:
    importlib.import_module("vizdoom")
  except ImportError as error:
    raise UserError(
      "data set maze is rendered by ViZDoom, which is not installed:"
      " pip install 'vdm_jax[maze]'"
    ) from error


def film(
  layout: layout_lib.Layout,
  rng: np.random.Generator,
  *,
  num_frames: int,
  image_size: int,
) -> tuple[np.ndarray, np.ndarray]:
  """Renders one walk through `layout`.

  Args:
    layout: the maze.
    rng: source of randomness of the walk.
    num_frames: number of frames T.
    image_size: height and width S of frames, one of `SIZES`.

  Returns:
    Frames uint8 [T, S, S, 3], of the same view for every S, and poses float32 [T, 3]:
    x, y in map units and yaw in radians in (-pi, pi], counter-clockwise from east.
  """
  guide = walker.Walker(layout, rng)
  frames = np.empty((num_frames, image_size, image_size, 3), np.uint8)
  poses = np.empty((num_frames, 3), np.float32)
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "maze.wad"
    path.write_bytes(wad.encode(layout, guide.start, guide.heading))
    with _STARTING:
      game = _game(path, image_size)
      game.init()
    try:
      for _ in range(_WARM_UP):
        _step(game, guide, render=False)
      for number in range(num_frames):
        for tic in range(TICS):
          _step(game, guide, render=tic == TICS - 1)
        frames[number] = _shrink(game.get_state().screen_buffer, image_size)
        x, y, heading = _pose(game)
        poses[number] = x, y, np.pi - np.radians((180 - heading) % 360)
    finally:
      game.close()
  return frames, poses


def _game(path: pathlib.Path, image_size: int):
  """Makes a game for the map at `path`, not yet started."""
  import vizdoom

  game = vizdoom.DoomGame()
  package = pathlib.Path(vizdoom.__file__).parent
  game.set_vizdoom_path(_elsewhere(package / "vizdoom", path.parent))
  game.set_doom_game_path(str(package / "freedoom2.wad"))
  game.set_doom_scenario_path(str(path))
  game.set_doom_map(wad.MAP)
  game.set_doom_config_path(str(path.with_name("game.ini")))
  game.set_mode(vizdoom.Mode.PLAYER)
  size = "512X384" if image_size > 64 else "256X192"
  game.set_screen_resolution(getattr(vizdoom.ScreenResolution, f"RES_{size}"))
  game.set_screen_format(vizdoom.ScreenFormat.RGB24)
  button = vizdoom.Button
  game.set_available_buttons(
    [button.MOVE_FORWARD_BACKWARD_DELTA, button.TURN_LEFT_RIGHT_DELTA]
  )
  for part in _UNSEEN:
    getattr(game, f"set_render_{part}")(False)
  game.add_game_args("+movebob 0")  # Keeps the view level.
  game.set_window_visible(False)
  game.set_sound_enabled(False)
  game.set_episode_timeout(0)  # No time limit.
  game.set_seed(0)  # All randomness is in the walker.
  return game


def _elsewhere(program: pathlib.Path, folder: pathlib.Path) -> str:
  """Makes a script that runs `program` in `folder`, where the game leaves its files.

  This process cannot change its working directory, as other threads share it.
  """
  script = folder / "game.sh"
  start = f'cd {shlex.quote(str(folder))} && exec {shlex.quote(str(program))} "$@"'
  script.write_text(f"#!/bin/sh\n{start}\n")
  os.chmod(script, 0o700)
  return str(script)


def _step(game, guide: walker.Walker, *, render: bool) -> None:
  """Advances the game by one tic."""
  turn, thrust = guide.steer(*_pose(game))
  game.set_action([thrust, -turn])
  game.advance_action(1, render)


def _pose(game) -> tuple[float, float, float]:
  """Returns x and y in map units and the heading in degrees."""
  import vizdoom

  variable = vizdoom.GameVariable
  names = (variable.POSITION_X, variable.POSITION_Y, variable.ANGLE)
  return tuple(map(game.get_game_variable, names))


def _shrink(screen: np.ndarray, size: int) -> np.ndarray:
  """Averages blocks of the largest centred square, to uint8 [size, size, 3]."""
  height, width, channels = screen.shape
  left, block = (width - height) // 2, height // size
  square = screen[:, left : left + height].reshape(size, block, size, block, channels)
  return np.rint(square.mean((1, 3))).astype(np.uint8)
