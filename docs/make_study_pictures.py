"""The pictures of docs/studies.md, taken out of a study's report.

medkit study run pretexts_ich --out runs/pretexts_ich
python docs/make_study_pictures.py runs/pretexts_ich/report.html
"""

from __future__ import annotations

import base64
import re
import sys
from pathlib import Path

IMAGE = re.compile(r'<img alt="([^"]*)" src="data:image/svg\+xml;base64,([^"]+)"')
WANTED = {"label efficiency": "study_labels", "difference of": "study_effects", "time of each method": "study_cost"}


def main(report: Path, folder: Path) -> None:
    for title, data in IMAGE.findall(report.read_text(encoding="utf-8")):
        for start, name in WANTED.items():
            if title.startswith(start):
                (folder / f"{name}.svg").write_bytes(base64.b64decode(data))
                print(folder / f"{name}.svg")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent / "images")
