"""Bundled recipes: ``medkit run ich_seg`` finds them by name from anywhere."""
