"""Whether the trials of a study were trained with the same medkit and libraries, on the same kind of device."""

from __future__ import annotations

from collections import Counter

from medkit.runs.begun import versions
from medkit.studies.folder import StudyFolder


def mixed_versions(folder: StudyFolder) -> list[str]:
    """A warning if they were not: what looks like a difference between methods may be one between versions."""
    found: dict[str, Counter[str]] = {}
    for trial in folder.trials():
        for name, version in set(versions(folder.run_folder(trial))):
            found.setdefault(name, Counter())[version] += 1
    apart = {name: counts for name, counts in found.items() if len(counts) > 1}
    if not apart:
        return []
    each = "; ".join(f"{name} {_shares(counts)}" for name, counts in apart.items())
    said = f"Trials were not all trained with the same versions: {each}."
    return [f"{said} Differences between methods may come from that."]


def _shares(counts: Counter[str]) -> str:
    each = (f"{version} ({count} trial{'s' if count != 1 else ''})" for version, count in sorted(counts.items()))
    return ", ".join(each)
