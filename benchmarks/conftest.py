"""Lends the suites their one fixture."""

from medkit.bench.fixtures import versus

__all__ = ["versus"]
