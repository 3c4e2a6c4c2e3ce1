from . import fdm, position, ramvid, rvd, vdm
