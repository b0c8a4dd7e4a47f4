"""Growth of a child: stature, head size, and when each centre of ossification appears and its growth plate closes.

Ages are in months, sex is 0 for girls and 1 for boys. The curves and tables are round numbers based on what paediatric
textbooks give for average children; girls are about half a year ahead in infancy and two years in adolescence.
"""

from __future__ import annotations

import numpy as np

_AGES = (0, 6, 12, 24, 36, 48, 72, 96, 120, 132, 144, 156, 168, 180, 192, 204, 216)
_STATURE = {  # cm
    0: (49, 65, 74, 86, 94, 101, 114, 126.5, 138, 144.5, 151, 156.5, 159.5, 161.5, 162.5, 163, 163),
    1: (50, 67, 75.5, 87, 95.5, 102.5, 116, 128, 138.5, 143.5, 149, 156, 163.5, 170, 173.5, 175.5, 176.5),
}
_HEAD = ((0, 12, 24, 48, 96, 144, 216), (0.62, 0.82, 0.86, 0.90, 0.94, 0.97, 1.0))
ADULT = 176.5

CENTRES: dict[str, tuple[float, float, float, float]] = {
    # appears (boy, girl), closes or has its final shape (boy, girl)
    "capitate": (2, 2, 168, 144),
    "hamate": (3, 3, 168, 144),
    "triquetrum": (30, 23, 174, 148),
    "lunate": (42, 33, 174, 148),
    "scaphoid": (66, 52, 180, 152),
    "trapezium": (67, 50, 180, 152),
    "trapezoid": (69, 52, 180, 152),
    "pisiform": (130, 102, 186, 158),
    "sesamoid": (156, 130, 186, 160),
    "distal radius": (13, 10, 214, 200),
    "distal ulna": (84, 70, 207, 194),
    "proximal phalanx": (18, 12, 196, 174),
    "middle phalanx": (24, 16, 197, 175),
    "distal phalanx": (28, 18, 190, 167),
    "metacarpal": (22, 15, 199, 177),
    "first metacarpal": (30, 19, 196, 172),
    "humeral head": (2, 2, 216, 194),
    "capitellum": (6, 5, 176, 154),
    "radial head": (62, 50, 188, 166),
    "medial epicondyle": (78, 60, 194, 172),
    "olecranon": (114, 98, 186, 164),
    "coracoid": (12, 10, 192, 174),
    "acromion": (170, 156, 224, 210),
    "femoral head": (5, 4, 206, 184),
    "greater trochanter": (48, 36, 202, 180),
    "distal femur": (-2, -2, 211, 188),
    "patella": (46, 33, 170, 146),
    "proximal tibia": (-1, -1, 209, 187),
    "tubercle": (130, 108, 200, 178),
    "proximal fibula": (44, 34, 207, 185),
    "distal tibia": (6, 5, 201, 178),
    "distal fibula": (14, 10, 204, 181),
    "calcaneus": (-8, -8, 170, 146),
    "talus": (-6, -6, 170, 146),
    "cuboid": (-1, -1, 170, 146),
    "lateral cuneiform": (6, 4, 172, 148),
    "medial cuneiform": (24, 18, 172, 148),
    "intermediate cuneiform": (30, 22, 172, 148),
    "navicular": (34, 25, 174, 150),
    "heel": (92, 70, 192, 170),
    "metatarsal": (36, 26, 196, 174),
    "toe": (24, 17, 194, 172),
    "triradiate": (-2, -2, 176, 152),
    "ischiopubic": (-2, -2, 96, 84),
    "iliac crest": (170, 150, 226, 214),
    "ring apophysis": (140, 118, 212, 196),
    "synchondrosis": (-2, -2, 192, 168),
}


def stature(age: float, sex: int) -> float:
    """Average stature in cm."""
    return float(np.interp(age, _AGES, _STATURE[sex]))


def body_scale(age: float, sex: int) -> float:
    """Size of trunk and limbs as a share of a grown man's."""
    return stature(age, sex) / ADULT


def head_scale(age: float, sex: int) -> float:
    """Size of the cranium as a share of a grown man's: the head is nearly grown at six."""
    return float(np.interp(age, *_HEAD)) * (1.0 if sex else 0.975)


def bone_scale(age: float, sex: int) -> float:
    """Thickness of bones as a share of a grown man's; bones of small children are thick for their length."""
    return body_scale(age, sex) ** 0.85 * (1.0 if sex else 0.95)


def maturity(centre: str, age: float, sex: int) -> float:
    """0 until the centre of ossification appears, 1 once its growth plate is closed, linear in age between."""
    boy_from, girl_from, boy_to, girl_to = CENTRES[centre]
    start, end = (boy_from, boy_to) if sex else (girl_from, girl_to)
    return float(np.clip((age - start) / (end - start), 0, 1))


def ossified(mature: float) -> float:
    """Size of a centre as a share of its final one: quick at first, complete at four fifths of its time."""
    return 0.0 if mature <= 0 else float(min(1.0, 0.2 + 0.8 * (mature / 0.8) ** 0.75))


def plate(mature: float, full: float) -> float:
    """Width in mm of the clear zone of a growth plate, ``full`` in a small child: even for long, then closing."""
    return 0.0 if mature >= 1 else full * (0.45 + 0.55 * min(1.0, (1 - mature) / 0.8)) * min(1.0, (1 - mature) / 0.1)
