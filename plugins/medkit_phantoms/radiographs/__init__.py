"""Phantom radiographs of children: parametric bodies, projected; growth, fractures, collimation, several exposures."""
