"""X-ray rooms: geometry, beam, detector and picture processing by name, and the exposure drawn from one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from equipoise.engines.imaging.simulate_xray.projection import View


@dataclass(frozen=True)
class Room:
    """What an X-ray room can do; every pair is a range that an exposure is drawn from, uniform.

    Parameters
    ----------
    views
        Projections that are taken there.
    kvp
        Peak voltage in kV.
    filter_mm
        Filtration, mm of aluminium and of copper.
    distance_mm
        From focal spot to detector.
    gap_mm
        From the patient's far skin to the detector.
    scatter
        Scattered over primary photons at the detector before the grid, averaged over the picture (chest without grid:
        about 0.8 behind the lungs, 5 and more behind the mediastinum).
    grid
        Share of primary and of scattered photons that pass the anti-scatter grid; 1 and 1 is none.
    photons
        Photons per mm² that are detected behind the patient, on the mean. 1 µGy is about 3·10⁴ of RQA 5.
    mtf50
        Spatial frequency in cycles/mm at which the detector's modulation transfer is one half.
    focus_mm
        Width of the focal spot.
    electronic
        Standard deviation of the detector's own noise, in photons per mm.
    detail
        How much structures below about 15 mm are enhanced; 1 is not at all.
    latitude
        How much of the large-scale contrast is kept; 1 is all.
    contrast
        Width of the display's curve over the range of the picture's attenuation; less is harder.
    """

    views: tuple[View, ...]
    kvp: tuple[float, float]
    filter_mm: tuple[float, float]
    distance_mm: tuple[float, float]
    gap_mm: tuple[float, float]
    scatter: tuple[float, float]
    grid: tuple[float, float]
    photons: tuple[float, float]
    mtf50: tuple[float, float]
    focus_mm: tuple[float, float]
    electronic: float
    detail: tuple[float, float]
    latitude: tuple[float, float]
    contrast: tuple[float, float]


_UPRIGHT: tuple[View, ...] = ("PA", "lateral")
ROOMS: Mapping[str, Room] = {
    "flat panel, wall stand": Room(
        _UPRIGHT, (115, 130), (3.5, 0.1), (1780, 1850), (20, 45), (1.5, 3.0), (0.70, 0.12), (4e4, 1.2e5), (1.1, 1.5),
        (0.6, 1.2), 2.0, (1.3, 2.0), (0.62, 0.85), (0.9, 1.2),
    ),
    "storage phosphor, wall stand": Room(
        _UPRIGHT, (110, 125), (3.0, 0.0), (1500, 1800), (20, 60), (1.5, 3.2), (0.66, 0.16), (1.5e4, 5e4), (0.9, 1.3),
        (0.8, 1.5), 4.0, (1.0, 1.5), (0.75, 1.0), (0.9, 1.3),
    ),
    "mobile, at the bed": Room(
        ("AP",), (80, 110), (2.5, 0.0), (950, 1250), (5, 25), (2.0, 4.5), (1.0, 1.0), (1e4, 6e4), (0.9, 1.4),
        (0.7, 1.3), 4.0, (1.3, 2.2), (0.65, 0.95), (0.8, 1.2),
    ),
    "film, digitised": Room(
        _UPRIGHT, (90, 120), (2.5, 0.0), (1500, 1850), (20, 60), (1.5, 3.0), (0.62, 0.14), (1e4, 4e4), (1.5, 2.5),
        (0.8, 1.5), 2.0, (0.9, 1.1), (0.95, 1.05), (0.75, 1.0),
    ),
}  # fmt: skip
"""Typical of their kind (European guidelines on quality criteria for diagnostic radiographic images, EUR 16260)."""


@dataclass(frozen=True)
class Exposure:
    """One picture's acquisition; names and units as in `Room`."""

    room: str
    view: View
    kvp: float
    filter_mm: tuple[float, float]
    distance_mm: float
    gap_mm: float
    scatter: float
    grid: tuple[float, float]
    photons: float
    mtf50: float
    focus_mm: float
    electronic: float
    detail: float
    latitude: float
    contrast: float
    turn: float
    tilt: float
    shift_mm: tuple[float, float]
    field_mm: float

    def attributes(self) -> dict[str, str | float]:
        """Return the acquisition as provenance."""
        return {
            "view": self.view,
            "kvp": self.kvp,
            "distance_mm": self.distance_mm,
            "scatter": self.scatter,
            "grid": "grid" if self.grid[0] < 1 else "no grid",
            "photons_per_mm2": self.photons,
            "turn_degrees": self.turn,
        }


def draw_exposure(
    name: str, room: Room, views: tuple[View, ...], turn: float, tilt: float, field_mm: tuple[float, float],
    rng: np.random.Generator,
) -> Exposure:  # fmt: skip
    """Draw how a picture is taken in a room.

    Parameters
    ----------
    views
        Projections to choose from.
    turn, tilt
        Largest rotation of the patient and of the beam in degrees.
    field_mm
        Range of the detector's width.
    """

    def one(pair: tuple[float, float]) -> float:
        return float(rng.uniform(*pair))

    low, high = np.log(room.photons)
    view = views[int(rng.integers(len(views)))]
    return Exposure(
        room=name,
        view=view,
        kvp=one(room.kvp),
        filter_mm=room.filter_mm,
        distance_mm=one(room.distance_mm),
        gap_mm=one(room.gap_mm),
        scatter=one(room.scatter),
        grid=room.grid,
        photons=float(np.exp(rng.uniform(low, high))),
        mtf50=one(room.mtf50),
        focus_mm=one(room.focus_mm),
        electronic=room.electronic,
        detail=one(room.detail),
        latitude=one(room.latitude),
        contrast=one(room.contrast),
        turn=turn * one((-1, 1)),
        tilt=tilt * one((-1, 1)),
        shift_mm=(8 * one((-1, 1)), 12 * one((-1, 1))),
        field_mm=one(field_mm),
    )


__all__ = ["ROOMS", "Exposure", "Room", "draw_exposure"]
