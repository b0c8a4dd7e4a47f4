"""One image: the body in its pose, its line integrals on the detector, and the exposure."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from medkit_phantoms.radiographs import breaks, detector
from medkit_phantoms.radiographs.breaks import Break
from medkit_phantoms.radiographs.frame import Canvas, Frame
from medkit_phantoms.radiographs.growth import body_scale, bone_scale
from medkit_phantoms.radiographs.hand import Breaker
from medkit_phantoms.radiographs.long_bones import Child
from medkit_phantoms.radiographs.primitives import SOFT
from medkit_phantoms.radiographs.views import View

Array = np.ndarray

LOW_VOLTAGE = 1.5
"""Limbs are taken at 45 to 60 kV, where bone stands out more against soft tissue than at a trunk's 70 to 110 kV."""


@dataclass(frozen=True)
class Order:
    """What to draw: a view of a child of ``age`` months and ``sex`` (1 male), ``side`` L or R, kind of fracture.

    A fracture is wide enough to be seen once the image's longest side has ``seen_at`` pixels; without it, as drawn.
    """

    view: View
    age: float
    sex: int
    side: str
    size: int
    fracture: str = ""
    seen_at: int | None = None


def child_of(order: Order, rng: np.random.Generator) -> Child:
    """A child of that skeletal age with its own stature and build."""
    length = body_scale(order.age, order.sex) * np.clip(rng.normal(1, 0.03), 0.92, 1.08)
    thick = bone_scale(order.age, order.sex) * np.clip(rng.normal(1, 0.04), 0.9, 1.1)
    return Child(order.age, order.sex, float(length), float(thick))


def rotation(azimuth: float, elevation: float, roll: float, tilt: float, mirror: bool) -> Array:
    """Rows u, v, w of the detector in body axes (degrees); ``mirror`` turns a left limb into a right one."""
    a, e, r, t = np.deg2rad((azimuth, elevation, roll, tilt))
    u = np.array((np.cos(a), np.sin(a), 0.0))
    away = np.array((-np.sin(a), np.cos(a), 0.0))
    v = np.array((0, 0, -1.0)) * np.cos(e) + away * np.sin(e)
    w = away * np.cos(e) + np.array((0, 0, 1.0)) * np.sin(e)
    turned = np.stack((u * np.cos(r) - v * np.sin(r), u * np.sin(r) + v * np.cos(r), w))
    about_y = np.array([[np.cos(t), 0, np.sin(t)], [0, 1, 0], [-np.sin(t), 0, np.cos(t)]])
    turned = turned @ about_y
    if mirror:
        turned[0] *= -1
    return turned


def frame_of(order: Order, child: Child, rng: np.random.Generator) -> Frame:
    """Detector for that view: its field, size and pose vary."""
    view, scale = order.view, order.view.scale(child)
    tall, broad = np.array(view.field) * scale * rng.uniform(0.92, 1.14) * rng.uniform(0.96, 1.06, 2)
    longest = round(order.size * rng.uniform(0.8, 1.0))
    pixel = max(tall, broad) / longest
    shape = (max(16, round(tall / pixel)), max(16, round(broad / pixel)))
    wobble = rng.normal(0, 1, 3) * ((1.5, 1.2, 2.0) if view.still else (3.0, 2.5, 6.0))
    # A right limb is a left one mirrored; trunk and head are seen from the other side, with the heart in its place.
    other = order.side == "R"
    way = -1.0 if other and view.still else 1.0
    turned = rotation(
        way * view.azimuth + wobble[0], view.elevation + wobble[1], view.roll + wobble[2], view.tilt,
        mirror=other and not view.still,
    )  # fmt: skip
    middle = turned[:2] @ (np.array(view.centre) * (way, 1, 1) * scale) + rng.normal(0, 0.02, 2) * (broad, tall)
    corner = middle - 0.5 * pixel * (np.array(shape[::-1]) - 1)
    return Frame(turned, corner, float(pixel), shape)


def integrals(order: Order, key: list[int]) -> tuple[Array, Frame]:
    """Attenuation (H,W) along every ray and the detector; ``key`` seeds it all."""
    child = child_of(order, np.random.default_rng([*key[:2], 11]))  # the same child in all of a patient's images
    frame = frame_of(order, child, np.random.default_rng([*key, 1]))
    seen = frame.pixel * max(frame.shape) / order.seen_at if order.seen_at else frame.pixel
    breaker = _breaker(order, seen, child.thick, key)
    canvas = Canvas(frame.shape)
    for part in order.view.build(child, np.random.default_rng([*key, 2]), breaker):
        part.paint(canvas, frame)
    return _sum(canvas, 1.0 if order.view.still else LOW_VOLTAGE, np.random.default_rng([*key, 4])), frame


def _chosen(order: Order, key: list[int]) -> str:
    if not order.fracture:
        return ""
    return str(np.random.default_rng([*key, 3]).choice(_breakable(order.view, order.fracture)))


def _breakable(view: View, kind: str) -> list[str]:
    """Bones of a view that break this way: a torus fracture occurs in a metaphysis."""
    if kind != "torus":
        return list(view.breaks)
    return [name for name in view.breaks if name.startswith(("distal", "proximal")) and "phalanx" not in name]


def kinds_of(view: View) -> tuple[str, ...]:
    """The kinds of fracture that a view can show."""
    return tuple(kind for kind in breaks.KINDS if _breakable(view, kind))


def _breaker(order: Order, pixel: float, thick: float, key: list[int]) -> Breaker:
    """Breaks the one bone that was chosen for it; ``pixel`` in mm, ``thick`` as a child's bones are."""
    chosen = _chosen(order, key)

    def broken(name: str, radius: float, places: tuple[float, float]) -> Break | None:
        if name != chosen:
            return None
        return breaks.draw(order.fracture, radius * thick, pixel, places, np.random.default_rng([*key, 5]))

    return broken


def _sum(canvas: Canvas, contrast: float, rng: np.random.Generator) -> Array:
    """All layers as one integral, bone times ``contrast``; trabeculae mottle bone, layers of fat soft tissue."""
    shape = canvas.soft.shape
    soft = cv2.GaussianBlur(canvas.soft, (0, 0), 1.6)
    total = soft * (SOFT * (1 + 0.012 * _mottle(shape, 14, rng)))
    total += canvas.bone * contrast * (1 + 0.09 * _mottle(shape, 1.6, rng))
    total += canvas.other
    # Nothing attenuates less than air, nor where there is no body.
    return np.maximum(total, 0.0)


def _mottle(shape: tuple[int, int], grain: float, rng: np.random.Generator) -> Array:
    """Smooth noise (H,W) of about unit variance, ``grain`` pixels wide."""
    small = (int(shape[0] / grain) + 3, int(shape[1] / grain) + 3)
    noise = rng.standard_normal(small, dtype=np.float32)
    return cv2.resize(noise, shape[::-1], interpolation=cv2.INTER_LINEAR) * np.float32(1.4)


def image(order: Order, key: list[int]) -> tuple[Array, float]:
    """Stored units (H,W) float32 from 0 to 4095, and mm per pixel."""
    integral, frame = integrals(order, key)
    rng = np.random.default_rng([*key, 6])
    lit = detector.collimate(frame.shape, rng)
    lead = detector.marker(frame.shape, order.side, rng) if rng.random() < 0.8 else np.zeros(frame.shape, np.float32)
    exposure = detector.draw(float(np.percentile(integral[::4, ::4], 95)), rng)
    return detector.expose(integral, exposure, lit, lead, np.random.default_rng([*key, 7])), frame.pixel
