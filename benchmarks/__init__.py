"""Benchmark suites: ``medkit bench`` runs the files that have cases, ``pytest benchmarks`` does too."""
