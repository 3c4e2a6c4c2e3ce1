from . import fdm, given, layers, network, position_regressor, ramvid, rvd, vdm
