"""One visual language: real is gold, synthetic is blue, a mix is what lies between.

Colours are mixed in OKLab [1]_, along the hue from gold over green to blue: the straight line between the two ends runs
through grey, which belongs to the other controls. Contrast is that of WCAG 2.2 [2]_.

References
----------
.. [1] Ottosson B. A perceptual color space for image processing. 2020. https://bottosson.github.io/posts/oklab/
.. [2] W3C. Web Content Accessibility Guidelines 2.2, relative luminance and contrast ratio. 2023.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

from equipoise.experiment.findings import ArmResult

REAL = "#B8860B"
SYNTHETIC = "#2F6DB5"
CONTROL = "#7D7D84"

Shape = Literal["circle", "diamond", "square", "up", "down", "hexagon"]

LIGHT: Mapping[str, str] = MappingProxyType(
    {
        "page": "#FFFFFF",
        "soft": "#F6F6F4",
        "line": "#E0DFDB",
        "ink": "#1B1C1F",
        "quiet": "#5C5E66",
        "faint": "#8A8B90",
        "band": "#EFEBDD",
        "link": "#1F5A9E",
        "green": "#2E6B3F",
        "amber": "#875A00",
        "red": "#A5342B",
        "none": "#5C5E66",
    }
)
DARK: Mapping[str, str] = MappingProxyType(
    {
        "page": "#131417",
        "soft": "#1B1D21",
        "line": "#33363C",
        "ink": "#ECECEA",
        "quiet": "#A9ABB2",
        "faint": "#7F8289",
        "band": "#2A2A25",
        "link": "#8DBBEE",
        "green": "#8CCB9B",
        "amber": "#E0B35A",
        "red": "#EE9389",
        "none": "#A9ABB2",
    }
)

_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
_DAMPING = 0.3
"""Share of chroma taken away half-way between gold and blue: keeps the mixes inside sRGB and calmer than both ends."""


def linear(colour: str) -> np.ndarray:
    """Return linear-light sRGB, shape ``(3,)`` in [0, 1], of ``#RRGGBB``."""
    encoded = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def encoded(light: np.ndarray) -> str:
    """Return ``#RRGGBB`` of linear-light sRGB; what lies outside the gamut is clipped."""
    light = np.clip(light, 0, 1)
    value = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return "#" + "".join(f"{int(v):02X}" for v in np.rint(255 * value))


def to_oklab(light: np.ndarray) -> np.ndarray:
    """Return OKLab ``(L, a, b)`` of linear-light sRGB."""
    return np.asarray(_TO_LAB @ np.cbrt(_TO_CONES @ light))


def from_oklab(lab: np.ndarray) -> np.ndarray:
    """Return linear-light sRGB of OKLab."""
    return np.asarray(np.linalg.inv(_TO_CONES) @ (np.linalg.inv(_TO_LAB) @ lab) ** 3)


def mixed(share: float) -> str:
    """Return the colour of a mix by its synthetic share, 0 (all real) to 1 (all synthetic).

    Examples
    --------
    >>> mixed(0.0), mixed(1.0)
    ('#B8860B', '#2F6DB5')
    """
    share = min(1.0, max(0.0, share))
    gold, blue = to_oklab(linear(REAL)), to_oklab(linear(SYNTHETIC))
    hue = [np.arctan2(lab[2], lab[1]) % (2 * np.pi) for lab in (gold, blue)]
    chroma = [np.hypot(lab[1], lab[2]) for lab in (gold, blue)]
    angle = hue[0] + share * (hue[1] - hue[0])
    radius = (chroma[0] + share * (chroma[1] - chroma[0])) * (1 - _DAMPING * 4 * share * (1 - share))
    lightness = gold[0] + share * (blue[0] - gold[0])
    return encoded(from_oklab(np.array([lightness, radius * np.cos(angle), radius * np.sin(angle)])))


def lifted(colour: str, lightness: float = 0.8) -> str:
    """Return the colour at another OKLab lightness: outlines on a dark image need a light one."""
    lab = to_oklab(linear(colour))
    return encoded(from_oklab(np.array([lightness, lab[1], lab[2]])))


def contrast(one: str, other: str) -> float:
    """Return the WCAG contrast ratio of two colours, 1 to 21."""
    weights = np.array([0.2126, 0.7152, 0.0722])
    bright, dark = sorted((float(weights @ linear(c)) + 0.05 for c in (one, other)), reverse=True)
    return bright / dark


@dataclass(frozen=True, slots=True)
class Style:
    """How an arm is drawn: colour, shape and hatch say the same thing three times."""

    colour: str
    shape: Shape = "circle"
    hatched: bool = False


def share_of(ratio: float | None) -> float:
    """Return the synthetic share of a synthetic : real ratio; ``None`` and infinity are synthetic only."""
    if ratio is None or np.isinf(ratio):
        return 1.0
    return 0.0 if np.isnan(ratio) else ratio / (1 + ratio)


def style_of(arm: ArmResult) -> Style:
    """Return how an arm is drawn."""
    match arm.family:
        case "real":
            return Style(REAL)
        case "duplicate":
            return Style(REAL, "circle", hatched=True)
        case "synthetic":
            return Style(SYNTHETIC, "square")
        case "pretrain":
            return Style(mixed(share_of(arm.ratio)), "up")
        case "weighted":
            return Style(mixed(share_of(arm.ratio)), "down")
        case "mix":
            return Style(mixed(share_of(arm.ratio)), "diamond")
        case _:
            return Style(CONTROL, "hexagon")


READER = Style(CONTROL, "circle")
"""A human reader: grey, as every reference that is no arm."""


def style_of_name(name: str, arms: Mapping[str, Style]) -> Style:
    """Return the style of a curve or outline: that of the arm of its name, else by the words in it."""
    if name in arms:
        return arms[name]
    words = name.lower()
    if "duplicat" in words:
        return Style(REAL, "circle", hatched=True)
    if words.startswith("real"):
        return Style(REAL)
    if words.startswith("synthetic"):
        return Style(SYNTHETIC, "square")
    if words.startswith("mix"):
        return Style(mixed(0.5), "diamond")
    return Style(CONTROL, "hexagon")
