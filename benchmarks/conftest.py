"""The fixture that the suites share."""

from medkit.bench.fixtures import versus

__all__ = ["versus"]
