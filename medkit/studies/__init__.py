"""Studies: one recipe, what varies in it, and the trials that result."""
