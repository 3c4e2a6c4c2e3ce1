"""Mazes to walk through: layout, map file, walker and camera.

Only `camera` needs ViZDoom; the others need only numpy.
"""
