"""Studies: one recipe, what varies in it, and the trials that come of it."""
