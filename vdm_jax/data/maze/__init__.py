"""A maze to walk through: its plan, its map file, the walker and the camera.

Only `camera` needs ViZDoom; the others are numpy.
"""
