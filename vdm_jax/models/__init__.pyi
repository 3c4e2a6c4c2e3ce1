from . import fdm, position_regressor, ramvid, rvd, vdm
