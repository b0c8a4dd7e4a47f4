"""Many commands instead of one: where they run."""
