"""Whether trials of a study were trained with the same medkit and libraries, kind of device and number of threads."""

from __future__ import annotations

from collections import Counter

from medkit.runs.begun import THREADS, versions
from medkit.studies.folder import StudyFolder

EFFECT = "Differences between methods may come from that."


def mixed_versions(folder: StudyFolder) -> list[str]:
    """Warnings if they were not: what looks like a difference between methods may be one between versions."""
    found: dict[str, Counter[str]] = {}
    for trial in folder.trials():
        for name, version in set(versions(folder.run_folder(trial))):
            found.setdefault(name, Counter())[version] += 1
    apart = {name: counts for name, counts in found.items() if len(counts) > 1}
    threads = apart.pop(THREADS, None)
    told = []
    if apart:
        each = "; ".join(f"{name} {_shares(counts)}" for name, counts in apart.items())
        told.append(f"Trials were not all trained with the same versions: {each}. {EFFECT}")
    if threads:
        what = "Trials were not all trained with the same number of threads, among which a CPU splits sums"
        told.append(f"{what}: {_shares(threads)}. {EFFECT}")
    return told


def _shares(counts: Counter[str]) -> str:
    each = (f"{version} ({count} trial{'s' if count != 1 else ''})" for version, count in sorted(counts.items()))
    return ", ".join(each)
