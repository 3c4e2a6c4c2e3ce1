"""The networks by whose features the field measures distances; inference only.

Parameters are nested dicts of float32 arrays; `metrics.weights` loads trained ones.
"""
