"""The networks whose features and distances the field reports; inference only.

Parameters are nested dicts of float32 arrays; `metrics.weights` brings real ones.
"""
