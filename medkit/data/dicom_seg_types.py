"""What a segment shows, if its name says so, in the SNOMED CT codes that DICOM has for segments."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Coded:
    """A SNOMED CT code: its value, and what it means."""

    value: str
    meaning: str


@dataclass(frozen=True)
class SegmentType:
    """Category and type of a segment (PS3.3 C.8.20.4), and its region of the body, if its name says so."""

    category: Coded
    type: Coded
    region: Coded | None = None

    @property
    def said(self) -> str:
        """In words, with the code."""
        where = f", {self.region.meaning} (SCT {self.region.value})" if self.region else ""
        return f"{self.type.meaning} (SCT {self.type.value}){where}"


TISSUE = Coded("85756007", "Tissue")
ABNORMAL = Coded("49755003", "Morphologically Abnormal Structure")
HEMORRHAGE = Coded("50960005", "Hemorrhage")
GENERIC = SegmentType(TISSUE, TISSUE)
"""For a segment whose name says nothing: PS3.16 CID 7150 has no category for unknown ones."""
REGIONS = {
    "iph": Coded("12738006", "Brain"),
    "sah": Coded("35951006", "Subarachnoid space"),
    "ivh": None,
    "edh": None,
    "sdh": None,
    "ich": None,
}
"""Abbreviations of kinds of bleed, with the region if CID 7151 has one."""
WORDS = {
    "cph": "iph",
    "intraparenchymal": "iph",
    "intracerebral": "iph",
    "subarachnoid": "sah",
    "intraventricular": "ivh",
    "epidural": "edh",
    "extradural": "edh",
    "subdural": "sdh",
    "intracranial": "ich",
    "bleed": "ich",
    "bleeding": "ich",
    "blood": "ich",
}
BLEEDS = re.compile(r"ha?e(morrhages?|matomas?)$")


def type_of(label: str) -> SegmentType:
    """What a segment of this name shows: a bleed of a known kind, else the generic type Tissue."""
    words = re.sub(r"[^a-z]+", " ", label.lower()).strip()
    kind = BLEEDS.sub("", words).strip() or "ich"
    kind = WORDS.get(kind, kind)
    return SegmentType(ABNORMAL, HEMORRHAGE, REGIONS[kind]) if words and kind in REGIONS else GENERIC
