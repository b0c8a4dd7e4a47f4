"""Benchmarks that compare variants of the same computation: checked, interleaved in one process, with their memory.

A suite is a pytest file of ``benchmarks/`` with a function ``cases()``; ``medkit bench`` runs it.
"""

from medkit.bench.case import Case, Rectified, Signs, Target, Truth, Unavailable, Variant, Work
from medkit.bench.compiled import compiled
from medkit.bench.device import has_bf16, has_tf32, tf32
from medkit.bench.remote import PAGES_KEPT

__all__ = [
    "PAGES_KEPT",
    "Case",
    "Rectified",
    "Signs",
    "Target",
    "Truth",
    "Unavailable",
    "Variant",
    "Work",
    "compiled",
    "has_bf16",
    "has_tf32",
    "tf32",
]
