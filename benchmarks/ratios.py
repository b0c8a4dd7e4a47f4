"""One table of all ratios kept in benchmarks/results/ratio-*.json, printed or put into a page.

python benchmarks/ratios.py [--into docs/benchmarks.md]
"""

from __future__ import annotations

import sys
from pathlib import Path

from medkit_benchmarks import script

from medkit.bench.ratio import RESULTS, markdown
from medkit.bench.table import fill
from medkit.errors import MedkitError


def main() -> None:
    parser = script.parser(__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder with the files (%(default)s)")
    parser.add_argument("--into", type=Path, help="a page with the lines '<!-- bench ratios -->' and '<!-- end -->'")
    arguments = parser.parse_args()
    try:
        table = markdown(arguments.results)
        print(table) if arguments.into is None else fill(arguments.into, "ratios", table)
    except MedkitError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
