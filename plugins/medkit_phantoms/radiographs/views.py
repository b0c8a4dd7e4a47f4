"""The views: which body is shown from where, how much of it, and its number among PedXnet's 68 classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from medkit_phantoms.radiographs.arm import arm, lower_arm, shoulder
from medkit_phantoms.radiographs.growth import head_scale
from medkit_phantoms.radiographs.hand import Breaker, hand, unbroken
from medkit_phantoms.radiographs.head import skull
from medkit_phantoms.radiographs.leg import SHIN, foot, leg, lower_leg
from medkit_phantoms.radiographs.long_bones import Child, flesh
from medkit_phantoms.radiographs.primitives import placed
from medkit_phantoms.radiographs.spine import spine
from medkit_phantoms.radiographs.trunk import lying, trunk

Build = Callable[[Child, np.random.Generator, Breaker], list[Any]]


@dataclass(frozen=True)
class View:
    """One radiographic view.

    Attributes
    ----------
    name, index:
        As in PedXnet-68C.
    region:
        The class of PedXnet-7C.
    build:
        The body's solids, mm.
    azimuth, elevation, roll:
        Degrees: 0, 0, 0 is antero-posterior with z up; azimuth 90 a lateral view facing left; elevation 90 from above.
    centre:
        Body point in the middle of the image, mm of a grown man.
    field:
        Height and width of the image, mm of a grown man.
    breaks:
        Bones that may be broken, none if the view is not among those with fractures.
    still:
        True for trunk and head, where the pose varies little and voltage is high; False for limbs.
    tilt:
        Degrees about y before everything else: what makes a view of the sole an oblique one.
    """

    name: str
    index: int
    region: str
    build: Build
    azimuth: float
    elevation: float
    centre: tuple[float, float, float]
    field: tuple[float, float]
    breaks: tuple[str, ...] = ()
    roll: float = 0.0
    still: bool = False
    tilt: float = 0.0

    def scale(self, child: Child) -> float:
        """What mm of a grown man are multiplied by for this child."""
        return head_scale(child.age, child.sex) if self.region == "Head" else child.length


def _trunk(need: str, stand: bool = False, arms: bool = True) -> Build:
    return lambda child, rng, breaker: trunk(child, rng, stand, need, arms)


def _head(child: Child, rng: np.random.Generator, breaker: Breaker) -> list[Any]:
    return skull(child, rng) + placed(spine(child, rng, child.length, "C4", "C1"), _neck(child))


def _neck(child: Child) -> np.ndarray:
    """Where the trunk's origin is, seen from the middle of the cranium: the atlas meets the condyles."""
    return np.array((0, 12, -64)) * head_scale(child.age, child.sex) - np.array((0, 20, 560)) * child.length


def _neck_bones(child: Child, rng: np.random.Generator, breaker: Breaker) -> list[Any]:
    bones = spine(child, rng, child.length, "T4", "C1") + placed(skull(child, rng), -_neck(child))
    tall = child.length
    chest = flesh(np.array(((-100, 20, 325), (100, 20, 325))) * tall, np.array((58, 58)) * tall)
    chest += flesh(np.array(((0, 8, 200), (0, 8, 340))) * tall, np.array((150, 140)) * tall, flat=0.66)
    return bones + chest + flesh(np.array(((0, 24, 400), (0, 16, 560))) * tall, np.array((58, 54)) * tall)


def _hand(fan: float = 0.0) -> Build:
    return lambda child, rng, breaker: hand(child, rng, breaker, fan)


def _arm(bend: float) -> Build:
    return lambda child, rng, breaker: arm(child, rng, breaker, bend)


def _upper_arm(child: Child, rng: np.random.Generator, breaker: Breaker) -> list[Any]:
    return shoulder(child, rng, breaker) + lower_arm(child, 6, rng.uniform(0.9, 1.2), unbroken)


def _leg(bend: float = 0.0, dip: float = 0.0) -> Build:
    return lambda child, rng, breaker: leg(child, rng, breaker, bend, dip)


def _foot(child: Child, rng: np.random.Generator, breaker: Breaker) -> list[Any]:
    above = placed(lower_leg(child, rng.uniform(0.9, 1.2), unbroken), np.array((0, -4, SHIN + 4)) * child.length)
    return above + foot(child, rng, np.zeros(3))


def _sole(child: Child, rng: np.random.Generator, breaker: Breaker) -> list[Any]:
    """The foot alone, as when the beam passes it from above with the leg out of the way."""
    return foot(child, rng, np.zeros(3))


def _both_legs(child: Child, rng: np.random.Generator, breaker: Breaker) -> list[Any]:
    one = leg(child, rng, breaker)
    gap = np.array((102.0, 0, 0)) * child.length
    return placed(one, gap) + placed(one, -gap, mirror=True)


def _pelvis(spread: float) -> Build:
    return lambda child, rng, breaker: lying(child, rng, spread)


_FINGERS = tuple(f"{name} {k}" for k in range(2, 6) for name in ("proximal phalanx", "metacarpal"))
_SHIN = ("tibial shaft", "fibular shaft", "distal tibia")
_KNEE, _ANKLE = ("distal femur", "proximal tibia"), ("distal tibia", "distal fibula")
_FOREARM = ("radial shaft", "ulnar shaft", "distal radius")
_ELBOW = ("distal humerus", "radial neck", "olecranon")
_HUMERUS = ("humeral shaft", "proximal humerus", "distal humerus")
_L, _U = "Lower_Extremity", "Upper_Extremity"

VIEWS = {
    view.name: view
    for view in (
        View("Chest_frontal", 20, "Chest", _trunk("chest"), 0, 0, (0, 0, 250), (400, 380), still=True),
        View("Chest_Lateral", 30, "Chest", _trunk("chest", arms=False), 90, 0, (0, 5, 250), (400, 310), still=True),
        View("Chest_Decubitus", 0, "Chest", _trunk("chest"), 0, 0, (0, 0, 235), (330, 420), roll=90, still=True),
        View("Chest_Rib", 7, "Chest", _trunk("chest"), 42, 0, (45, 0, 225), (400, 290), still=True),
        View("Chest_Clavicle", 32, "Chest", _trunk("chest"), 0, 12, (85, 0, 355), (150, 230), still=True),
        View("Skull_AP", 60, "Head", _head, 0, 0, (0, 0, -30), (232, 188), still=True),
        View("Skull_Lateral", 47, "Head", _head, 90, 0, (0, 0, -24), (222, 238), still=True),
        View("Skull_Towne", 37, "Head", _head, 0, -32, (0, 0, -20), (245, 205), still=True),
        View("Nose_PNS", 61, "Head", _head, 0, 36, (0, -55, -45), (190, 160), still=True),
        View("Nose_Lateral", 33, "Head", _head, 90, 0, (0, -88, -52), (110, 85), still=True),
        View("Mandible", 59, "Head", _head, 62, 22, (0, -40, -95), (140, 180), still=True),
        View("Abdomen_supine", 55, "Abdomen", _trunk("abdomen"), 0, 0, (0, 0, 20), (380, 320), still=True),
        View("Abdomen_upright", 26, "Abdomen", _trunk("abdomen", True), 0, 0, (0, 0, 65), (400, 330), still=True),
        View("Abdomen_KUB", 19, "Abdomen", _trunk("abdomen"), 0, 0, (0, 0, -15), (420, 340), still=True),
        View("Abdomen_Lateral", 1, "Abdomen", _trunk("abdomen", True, False), 90, 0, (0, 5, 40), (380, 270),
             still=True),
        View("Femur_AP", 54, _L, _leg(), 0, 0, (18, 0, 235), (480, 210), ("femoral shaft", "distal femur")),
        View("Knee_AP", 46, _L, _leg(), 0, 0, (0, 0, 0), (230, 160), _KNEE),
        View("Knee_Lateral", 3, _L, _leg(32), 90, 0, (0, 4, 0), (230, 185), _KNEE),
        View("Knee_Oblique", 22, _L, _leg(), 45, 0, (0, 0, 0), (230, 160), _KNEE),
        View("Leg_AP", 51, _L, _leg(), 0, 0, (6, 0, -185), (430, 160), _SHIN),
        View("Leg_Oblique", 9, _L, _leg(), 45, 0, (6, 0, -185), (430, 160), _SHIN[:2]),
        View("Ankle_AP", 13, _L, _leg(), 0, 0, (2, -15, -362), (190, 140), _ANKLE),
        View("Ankle_Mortise", 41, _L, _leg(), 20, 0, (2, -15, -362), (190, 140), _ANKLE),
        View("Ankle_Lateral", 35, _L, _leg(), 90, 0, (0, -18, -372), (190, 190), _ANKLE),
        View("Foot_AP", 10, _L, _sole, 0, 76, (2, -75, -35), (290, 130)),
        View("Foot_Oblique", 17, _L, _sole, 0, 76, (2, -72, -35), (290, 140), tilt=-36),
        View("Foot_Lateral", 23, _L, _foot, 90, 0, (0, -62, -20), (150, 290)),
        View("Foot_Calcaneus", 6, _L, _foot, 90, 0, (0, 20, -36), (115, 135)),
        View("Toe", 5, _L, _sole, 0, 80, (-6, -150, -50), (130, 105)),
        View("Whole_Lower_AP", 18, _L, _both_legs, 0, 0, (0, 0, 20), (980, 400)),
        View("Hand_PA", 42, _U, _hand(), 0, 0, (4, 0, 84), (270, 200), _FINGERS),
        View("Hand_Oblique", 27, _U, _hand(), 42, 0, (4, 0, 84), (270, 180), _FINGERS),
        View("Hand_Lateral", 44, _U, _hand(14), 84, 0, (2, -8, 84), (270, 150)),
        View("Wrist_AP", 29, _U, _hand(), 0, 0, (0, 0, 8), (160, 110)),
        View("Wrist_Oblique", 45, _U, _hand(), 45, 0, (0, 0, 8), (160, 105)),
        View("Finger", 8, _U, _hand(), 0, 0, (10, 0, 148), (125, 75)),
        View("Forearm_Oblique", 25, _U, _arm(0), 35, 0, (0, 0, -440), (330, 120), _FOREARM),
        View("Elbow_Lateral", 64, _U, _arm(88), 90, 0, (0, -22, -300), (170, 165), _ELBOW),
        View("Humerus_Oblique", 53, _U, _upper_arm, 24, 0, (0, 0, -155), (390, 130), _HUMERUS),
        View("Shoulder_AP", 21, _U, shoulder, 0, 0, (-42, 0, -32), (210, 230), ("proximal humerus",)),
        View("C_spine_AP", 67, "Spine", _neck_bones, 0, 14, (0, 0, 480), (230, 160), still=True),
        View("C_spine_Lateral", 49, "Spine", _neck_bones, 90, 0, (0, 10, 505), (240, 190), still=True),
        View("T_Spine_AP", 28, "Spine", _trunk("spine"), 0, 0, (0, 0, 280), (390, 170), still=True),
        View("L_Spine_AP", 63, "Spine", _trunk("spine"), 0, 0, (0, 0, 40), (330, 190), still=True),
        View("L_Spine_Lateral", 43, "Spine", _trunk("spine", arms=False), 90, 0, (0, 32, 35), (330, 180), still=True),
        View("L_Spine_Oblique", 62, "Spine", _trunk("spine"), 45, 0, (0, 20, 40), (320, 180), still=True),
        View("T_L_Spine", 24, "Spine", _trunk("spine", arms=False), 90, 0, (0, 38, 165), (420, 200), still=True),
        View("Whole_Spine_AP", 56, "Spine", _trunk("spine"), 0, 0, (0, 0, 215), (790, 300), still=True),
        View("Pelvis_AP", 52, "Pelvis", _pelvis(0), 0, 0, (0, 0, -95), (290, 370), still=True),
        View("Pelvis_Frogleg", 34, "Pelvis", _pelvis(52), 0, 0, (0, 0, -105), (280, 400), still=True),
        View("Pelvis_Oblique", 16, "Pelvis", _pelvis(0), 42, 0, (30, 0, -95), (280, 290), still=True),
        View("Pevis_coccyx_sacrum", 11, "Pelvis", _pelvis(0), 90, 0, (0, 55, -90), (220, 190), still=True),
    )
}  # fmt: skip
"""All views that can be drawn, by their official names (spelt as they are there)."""

REGIONS = ("Chest", "Head", "Abdomen", "Lower_Extremity", "Upper_Extremity", "Spine", "Pelvis")
"""The classes of PedXnet-7C in their official order."""
