from . import captions, pipeline, source, video
from .builders import build
from .source import VideoSource, load
