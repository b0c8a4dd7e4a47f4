"""``python -m medkit``."""

from medkit.cli.main import main

main()
