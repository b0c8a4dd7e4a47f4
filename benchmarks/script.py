"""The command line of a benchmark script."""

from __future__ import annotations

import argparse


def parser(text: str | None) -> argparse.ArgumentParser:
    """A parser that shows the script's own docstring for --help."""
    return argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
