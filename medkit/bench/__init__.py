"""Benchmarks that compare variants of the same computation: checked, interleaved in one process, with their memory.

A suite is a pytest file of ``benchmarks/`` with a function ``cases()``; ``medkit bench`` runs it.
"""

from medkit.bench.case import Case, Target, Unavailable, Variant, Work
from medkit.bench.compiled import compiled

__all__ = ["Case", "Target", "Unavailable", "Variant", "Work", "compiled"]
