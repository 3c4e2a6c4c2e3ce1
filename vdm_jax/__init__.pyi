from . import configs, data, diffusion, metrics, models, plans, systems, tasks
from .errors import UserError
from .experiment import train
from .frames import Frames
from .sampling import Model, load
