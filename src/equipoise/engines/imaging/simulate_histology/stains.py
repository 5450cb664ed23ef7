"""Colours of haematoxylin and eosin: how light is lost in a stained section, and which stains an image shows.

A section of concentration ``C`` and thickness ``t`` has the optical density ``OD = V C t / 4 µm`` in red, green and
blue (Beer-Lambert), where the columns of ``V`` are unit vectors, one per stain. Concentrations are therefore counted in
optical density of a 4 µm section.

References
----------
Ruifrok AC, Johnston DA. Quantification of histochemical staining by color deconvolution. Anal Quant Cytol Histol
2001;23:291-299.

Macenko M, Niethammer M, Marron JS, et al. A method for normalizing histology slides for quantitative analysis. ISBI
2009:1107-1110. doi:10.1109/ISBI.2009.5193250

Landini G, Martinelli G, Piccinini F. Colour deconvolution: stain unmixing in histological imaging. Bioinformatics
2021;37:1485-1487. doi:10.1093/bioinformatics/btaa847

Bankhead P, Loughrey MB, Fernández JA, et al. QuPath: open source software for digital pathology image analysis. Sci Rep
2017;7:16878. doi:10.1038/s41598-017-17204-5
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

THICKNESS_UM = 4.0
"""Of the section in which a concentration of 1 has an optical density of 1."""

RED_CELLS = (0.13, 0.74, 0.66)
"""Haemoglobin and the eosin it binds: absorbs blue (Soret band) and green, hardly any red."""

DENSE_ENOUGH = 0.15
"""Optical density (Euclidean norm) above which a pixel says what colour its stain has."""

WHITE = 0.995
"""Share of pixels that are darker than glass, where an image shows any."""

LEAST_ANGLE = 8.0
"""Degrees between two stains below which an image shows one only."""

EIGHT_BIT = 255.0


class Stains(NamedTuple):
    """Optical densities of haematoxylin and eosin in red, green and blue."""

    haematoxylin: tuple[float, float, float]
    eosin: tuple[float, float, float]


LABORATORIES: dict[str, Stains] = {
    # Ruifrok and Johnston 2001, table of single stains.
    "ruifrok-johnston": Stains((0.650, 0.704, 0.286), (0.072, 0.990, 0.105)),
    # The reference slide of Macenko et al. 2009.
    "macenko": Stains((0.5626, 0.7201, 0.4062), (0.2159, 0.8012, 0.5581)),
    # Landini et al. 2021, "H&E" and "H&E 2".
    "landini-1": Stains((0.6442, 0.7166, 0.2668), (0.0928, 0.9541, 0.2831)),
    "landini-2": Stains((0.4902, 0.7690, 0.4104), (0.0462, 0.8421, 0.5374)),
    # Defaults of QuPath (Bankhead et al. 2017).
    "qupath": Stains((0.6511, 0.7012, 0.2905), (0.2159, 0.8012, 0.5581)),
}
"""Published stain vectors by source: the laboratories that a case is drawn from."""


@dataclass(frozen=True, eq=False)
class Unmixed:
    """What an image says about its stains.

    Parameters
    ----------
    vectors
        float64, shape ``(3, 3)``: columns haematoxylin, eosin, and what is at right angles to both.
    white
        Grey values of glass in red, green, blue.
    concentrations
        float32, shape ``(3, I, J, K)``: of the two stains (0 or more) and of the rest (of any sign).
    """

    vectors: np.ndarray
    white: np.ndarray
    concentrations: np.ndarray


def matrix_of(stains: Stains) -> np.ndarray:
    """Return unit vectors of haematoxylin, eosin and red cells as columns, shape ``(3, 3)``."""
    matrix = np.array([*stains, RED_CELLS], float).T
    unit: np.ndarray = matrix / np.linalg.norm(matrix, axis=0)
    return unit


def turned(vector: np.ndarray, degrees: float, rng: np.random.Generator) -> np.ndarray:
    """Return a unit vector at an angle from another one, in a random direction, without negative absorption."""
    across = rng.standard_normal(3)
    across -= (across @ vector) * vector
    across /= np.linalg.norm(across)
    angle = np.deg2rad(degrees)
    out = np.maximum(np.cos(angle) * vector + np.sin(angle) * across, 0.0)
    unit: np.ndarray = out / np.linalg.norm(out)
    return unit


def optical_density(concentrations: np.ndarray, vectors: np.ndarray, thickness_um: float | np.ndarray) -> np.ndarray:
    """Return the optical density of a section in red, green, blue (Beer-Lambert).

    Parameters
    ----------
    concentrations
        float32, shape ``(S, I, J, K)``.
    vectors
        Unit vectors of the S stains as columns, shape ``(3, S)``.
    thickness_um
        Of the section; a number, or one of shape ``(I, J, K)``.

    Returns
    -------
    np.ndarray
        float32, shape ``(3, I, J, K)``.
    """
    per_um = (vectors / THICKNESS_UM).astype(np.float32)
    flat = per_um @ concentrations.reshape(len(concentrations), -1)
    density: np.ndarray = flat.reshape(3, *concentrations.shape[1:]) * np.asarray(thickness_um, np.float32)
    return density


def glass_of(colours: np.ndarray) -> np.ndarray:
    """Return the grey values of glass in red, green, blue, shape ``(3,)``: the brightest that many pixels have.

    Parameters
    ----------
    colours
        Shape ``(3, N)``, 0 to 255.
    """
    white: np.ndarray = np.clip(np.quantile(colours, WHITE, axis=1), 160.0, EIGHT_BIT)
    return white


def density_of(colours: np.ndarray, white: np.ndarray) -> np.ndarray:
    """Return the optical density of grey values against glass, float32, of the shape ``(3, ...)`` of ``colours``."""
    shape = (3, *[1] * (colours.ndim - 1))
    share = np.maximum(colours.astype(np.float32), 1.0) / white.reshape(shape).astype(np.float32)
    density: np.ndarray = -np.log10(share, dtype=np.float32)
    return density


def stains_of(density: np.ndarray) -> np.ndarray:
    """Return unit vectors of haematoxylin and eosin of an image, columns of shape ``(3, 2)`` (Macenko et al. 2009).

    The two extreme directions of the plane that the densities lie in; where these are no two stains, those of the
    nearest published laboratory.

    Parameters
    ----------
    density
        Optical densities of some pixels, shape ``(3, N)``.
    """
    dense = density[:, (np.linalg.norm(density, axis=0) > DENSE_ENOUGH) & (density.min(axis=0) > -0.05)]
    if dense.shape[1] < 100:
        return matrix_of(LABORATORIES["macenko"])[:, :2]
    _, axes = np.linalg.eigh(np.cov(dense))
    plane = axes[:, :0:-1]
    plane = plane * np.sign(plane.sum(axis=0))
    angles = np.arctan2(*(plane.T @ dense)[::-1])
    ends = np.percentile(angles, (1, 99))
    found = np.stack([plane @ (np.cos(a), np.sin(a)) for a in ends], axis=1)
    found = np.maximum(found, 1e-3)
    found /= np.linalg.norm(found, axis=0)
    # Eosin lets red pass, haematoxylin takes it away.
    found = found[:, np.argsort(-found[0])]
    apart = np.degrees(np.arccos(np.clip(found[:, 0] @ found[:, 1], -1, 1)))
    if apart >= LEAST_ANGLE:
        pair: np.ndarray = found
        return pair
    middle = found.mean(axis=1)
    names = sorted(LABORATORIES)
    laboratories = [matrix_of(LABORATORIES[name])[:, :2] for name in names]
    nearest: np.ndarray = max(laboratories, key=lambda m: float(middle @ m.mean(axis=1)))
    return nearest


def unmix(colours: np.ndarray, rng: np.random.Generator, most: int = 40_000) -> Unmixed:
    """Return stains and concentrations of an image.

    Parameters
    ----------
    colours
        Grey values 0 to 255, shape ``(3, I, J, K)``.
    rng
        Of the pixels that the vectors are estimated from.
    most
        How many these are.
    """
    flat = colours.reshape(3, -1)
    some = flat if flat.shape[1] <= most else flat[:, rng.choice(flat.shape[1], most, replace=False)]
    white = glass_of(some)
    pair = stains_of(density_of(some, white))
    rest = np.cross(pair[:, 0], pair[:, 1])
    vectors = np.column_stack([pair, rest / np.linalg.norm(rest)])
    amounts = np.linalg.inv(vectors).astype(np.float32) @ density_of(flat, white)
    amounts[:2] = np.maximum(amounts[:2], 0)
    return Unmixed(vectors, white, amounts.reshape(colours.shape).astype(np.float32))


__all__ = [
    "LABORATORIES",
    "RED_CELLS",
    "THICKNESS_UM",
    "Stains",
    "Unmixed",
    "density_of",
    "glass_of",
    "matrix_of",
    "optical_density",
    "stains_of",
    "turned",
    "unmix",
]
