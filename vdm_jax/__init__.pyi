from . import (
  configs,
  data,
  diffusion,
  errors,
  frames,
  metrics,
  models,
  pixels,
  plans,
  sampling,
  systems,
  tasks,
)
from .errors import UserError
from .experiment import train
from .frames import Frames
from .sampling import Model, load
