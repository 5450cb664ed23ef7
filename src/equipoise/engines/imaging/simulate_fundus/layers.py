"""What lies in front of a fundus, as layers of varying depth, and the light that each colour of a camera receives.

Spectra are integrated over the camera's bands into tables of the depth, once per picture.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit

from equipoise.engines.imaging.simulate_fundus import optics

NODES = 96
"""Of the tables of paths."""
LONGEST_UM = 480.0
"""Path that the tables end at; wider vessels are black already."""
PATHS_UM = np.linspace(0, LONGEST_UM, NODES)
VEIN_REFLEX = 0.45
"""Light reflex of veins over that of arteries, whose wall is thicker."""


@dataclass(frozen=True, eq=False)
class Light:
    """Reflectance of an eye in the bands of a camera, media included; float32 ``(B, I, J)`` each.

    Parameters
    ----------
    fundus
        Without anything in front.
    vessels
        Seen through retinal vessels.
    total
        What reaches the camera: seen through lesions and vessels.
    """

    fundus: np.ndarray
    vessels: np.ndarray
    total: np.ndarray


@dataclass(frozen=True, eq=False)
class Layer:
    """Something of varying depth in front of the fundus.

    Parameters
    ----------
    depth_um
        Path of light through it, float32 ``(I, J)``; 0 where it is not.
    through
        Share of the light behind it that is seen at each of `PATHS_UM`, ``(B, NODES)``.
    added
        Light that it sends back itself, media included, ``(B, NODES)``.
    glance
        Reflectance of its surface where ``facing`` is 1, media included, ``(B,)``.
    facing
        How far its surface faces the camera, float32 ``(I, J)``.
    """

    depth_um: np.ndarray
    through: np.ndarray
    added: np.ndarray
    glance: np.ndarray
    facing: np.ndarray


@dataclass(frozen=True, eq=False)
class Sight:
    """How spectra of one eye become the colours of one camera.

    Parameters
    ----------
    eye
        Its pigments.
    bands
        Sensitivities, ``(B, wavelengths)``, rows with the sum 1.
    """

    eye: optics.Fundus
    bands: np.ndarray

    @cached_property
    def media(self) -> np.ndarray:
        """Sensitivities to light from within the eye, ``(B, wavelengths)``."""
        return np.asarray(self.bands * np.exp(-2 * optics.LN10 * optics.media_density(self.eye.age)))

    @cached_property
    def _behind(self) -> np.ndarray:
        """Share of each wavelength in the light that comes from the fundus, ``(B, wavelengths)``."""
        weights = self.bands * self.eye.reflectance(sheen=0.5)
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))

    def layer(
        self,
        depth_um: np.ndarray,
        through: np.ndarray,
        added: np.ndarray,
        reflex: float = 0.0,
        facing: np.ndarray | None = None,
    ) -> Layer:
        """Return a layer of this eye in the bands of this camera.

        Parameters
        ----------
        depth_um
            Path of light through it, float32 ``(I, J)``.
        through, added
            Spectra of what it lets through and what it sends back at each of `PATHS_UM`, ``(NODES, wavelengths)``.
        reflex, facing
            Reflectance of its surface, and how far that faces the camera, float32 ``(I, J)``.
        """
        return Layer(
            depth_um,
            np.asarray(self._behind @ through.T, np.float32),
            np.asarray(self.media @ added.T, np.float32),
            np.asarray(reflex * self.media.sum(axis=1), np.float32),
            depth_um if facing is None else facing,
        )


def vessel_layers(sight: Sight, lumen_um: np.ndarray, axis: np.ndarray, reflex: float) -> list[Layer]:
    """Return veins, and arteries in front: they mostly cross above.

    Parameters
    ----------
    sight
        Eye and camera.
    lumen_um, axis
        Of arteries and veins, as in `equipoise.engines.parts.retina.Eye`.
    reflex
        Reflectance of the light reflex along arteries.
    """
    return [
        sight.layer(
            lumen_um[kind],
            optics.vessel_transmission(PATHS_UM, saturation),
            optics.vessel_backscatter(PATHS_UM, saturation),
            share * reflex,
            axis[kind],
        )
        for kind, saturation, share in ((1, optics.VENOUS, VEIN_REFLEX), (0, optics.ARTERIAL, 1.0))
    ]


def seen_through(fundus: np.ndarray, layers: Iterable[Layer]) -> np.ndarray:
    """Return a fundus seen through layers, the first one the farthest from the camera."""
    light = fundus.copy()
    for layer in layers:
        _cover(light, layer.depth_um, layer.facing, layer.through, layer.added, layer.glance)
    return light


@njit(cache=True, nogil=True, fastmath=True)
def _cover(light, depth, facing, through, added, glance):  # type: ignore[no-untyped-def]
    """Put a layer in front of the light, in place."""
    last = np.float32(through.shape[1] - 1)
    scale = last / np.float32(LONGEST_UM)
    for i in range(light.shape[1]):
        for j in range(light.shape[2]):
            if depth[i, j] <= 0:
                continue
            w = min(depth[i, j] * scale, last - np.float32(0.001))
            c = int(w)
            h = np.float32(w - c)
            for k in range(light.shape[0]):
                let = through[k, c] + h * (through[k, c + 1] - through[k, c])
                own = added[k, c] + h * (added[k, c + 1] - added[k, c])
                light[k, i, j] = light[k, i, j] * let + own + glance[k] * facing[i, j]


__all__ = ["LONGEST_UM", "PATHS_UM", "Layer", "Light", "Sight", "seen_through", "vessel_layers"]
