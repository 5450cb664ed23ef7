"""What training pictures say: stain vectors, glass, sharpness, noise, and how much stain nuclei and the rest hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from equipoise.core import Case, LabelMap, patients_of
from equipoise.engines.imaging.simulate_histology.scanners import Acquisition
from equipoise.engines.imaging.simulate_histology.stains import RED_CELLS, THICKNESS_UM, Unmixed, unmix
from equipoise.engines.parts.appearance import blur
from equipoise.engines.parts.placement import Placement
from equipoise.engines.parts.tissue_model import TissueModel
from equipoise.engines.parts.tissue_scene import known_as, meanings_of
from equipoise.errors import DataError

MOST_CASES = 32
"""Pictures that are learned from."""

LEVELS = 65
"""Quantiles of a concentration that are remembered."""

CLASSES = (12, 4)
"""Sub-labels of what nobody labelled, and of each label."""

DEPTHS_PX = (1, 3)
"""Distances from a sub-label's border between which its grain is learned apart: the middle of a lumen is clear."""

IN_PLANE = np.ones((3, 3, 1), bool)
"""Neighbours of a pixel."""

GLASS = 0.04
"""Concentration of both stains below which a pixel shows glass."""

GRAIN_PX = 3.0
"""Standard deviation of the blur that divides concentrations into regions and grain."""

NEAR_PX = 3
"""Distance from labelled nuclei within which tissue is not read: their blurred margins are no cytoplasm."""

UNLABELLED = 0.10
"""Share of the rest that is not read, with the most haematoxylin: nuclei that nobody labelled."""

REST_PX = 2.0
"""Standard deviation of the blur of what is neither stain before it is learned."""

FEWEST = 200
"""Pixels below which a region says nothing of its concentrations."""

WIDTHS_PX = (0.4, 0.7, 1.0, 1.4, 2.0, 2.8)
"""Blurs that are tried on a picture's own labels, to find how sharp it is."""

SIDE_PX = 320
"""Of the piece that is compared."""

Sharp = Callable[[LabelMap, np.random.Generator], np.ndarray]
"""Paints a label map: concentrations of haematoxylin, eosin and red cells, shape ``(3, I, J, 1)``."""


@dataclass(frozen=True, eq=False)
class Levels:
    """Haematoxylin and eosin of a region.

    Parameters
    ----------
    quantiles
        Of the smooth part, shape ``(2, LEVELS)``.
    grain
        Standard deviation of what is finer, shape ``(2,)``.
    """

    quantiles: np.ndarray
    grain: np.ndarray


@dataclass(frozen=True, eq=False)
class Slide:
    """One training picture.

    Parameters
    ----------
    vectors
        Columns haematoxylin, eosin, rest, shape ``(3, 3)``.
    white
        Grey values of glass.
    blur_px
        Standard deviation of its point-spread function.
    noise
        Standard deviation of its noise at glass, grey values.
    nuclei, rest
        Haematoxylin and eosin in nuclei and elsewhere, where there was enough to see.
    """

    vectors: np.ndarray
    white: np.ndarray
    blur_px: float
    noise: float
    nuclei: Levels | None
    rest: Levels | None

    def acquisition(self, of: Acquisition, um: float) -> Acquisition:
        """Return an acquisition that shows what this picture shows, with the rest of another one."""
        return replace(
            of,
            laboratory="learned",
            vectors=self.vectors,
            thickness_um=THICKNESS_UM,
            blur_um=(1.05 * self.blur_px * um, self.blur_px * um, 0.95 * self.blur_px * um),
            white=self.white,
            gamma=1.0,
            saturation=1.0,
            noise=self.noise,
        )

    def red_cells(self, concentrations: np.ndarray) -> np.ndarray:
        """Return concentrations whose third is of red cells as ones whose third is this picture's rest."""
        red = np.linalg.solve(self.vectors, np.array(RED_CELLS) / np.linalg.norm(RED_CELLS)).astype(np.float32)
        out = concentrations.copy()
        out[2] = 0
        moved: np.ndarray = out + red[:, None, None, None] * concentrations[2:3]
        return moved

    def matched(self, concentrations: np.ndarray, nuclear: np.ndarray) -> np.ndarray:
        """Return concentrations ``(3, I, J, 1)`` whose distributions in nuclei and elsewhere are this picture's."""
        out = concentrations.copy()
        tissue = concentrations[:2].sum(axis=0) > GLASS
        for where, wanted in ((nuclear & tissue, self.nuclei), (~nuclear & tissue, self.rest)):
            if wanted is None or not where.any():
                continue
            smooth, grain = _split(out[:2], where)
            for stain in range(2):
                have = np.quantile(smooth[stain][:: max(smooth.shape[1] // 8192, 1)], np.linspace(0, 1, LEVELS))
                # Equal values (glass is 0) keep one value: the lowest that they may take.
                keep = np.concatenate([[True], np.diff(have) > 1e-6])
                level = np.interp(smooth[stain], have[keep], wanted.quantiles[stain][keep])
                factor = float(np.clip(wanted.grain[stain] / max(grain[stain].std(), 1e-4), 0.2, 2.5))
                out[stain][where] = np.maximum(level + factor * grain[stain], 0)
        return out


@dataclass(frozen=True, eq=False)
class Learned:
    """Result of a fit: the pictures by case, what their tissue looks like, and whose they are."""

    slides: Mapping[str, Slide]
    tissue: TissueModel
    parents: frozenset[str]

    def slide(self, placement: Placement | None, rng: np.random.Generator) -> Slide:
        """Return the picture that a scene came from, or any."""
        names = sorted(self.slides)
        drawn = names[int(rng.integers(len(names)))]
        return self.slides[placement.source if placement and placement.source in self.slides else drawn]

    def scene(
        self, labels: LabelMap, placement: Placement | None, texture: float, rng: np.random.Generator
    ) -> tuple[Slide, np.ndarray]:
        """Draw tissue under a label map, and return the picture that its stains are of, with its concentrations."""
        names = sorted(self.slides)
        name = names[int(rng.integers(len(names)))]
        # Concentrations are along a picture's own vectors, so both come from one picture.
        one = replace(self.tissue, looks={name: self.tissue.looks[name]})
        drawn = one.scene(labels, placement, rng, texture)
        drawn[:2] = np.maximum(drawn[:2], 0)
        return self.slides[name], drawn


def learn_from(cases: Sequence[Case], sharp: Sharp, rng: np.random.Generator) -> Learned:
    """Return what training pictures say.

    Parameters
    ----------
    cases
        Colour pictures with label maps.
    sharp
        Paints their label maps, to compare sharpness with.
    rng
        Of subsamples.

    Raises
    ------
    DataError
        If there is no case, or a picture is not one of three 8-bit colours.
    """
    if not cases:
        raise DataError("simulate-histology got no case to learn from", fix="give training cases, or set learn = false")
    chosen = [cases[int(k)] for k in np.sort(rng.permutation(len(cases))[:MOST_CASES])]
    streams = rng.spawn(len(chosen))
    colours = [colours_of(case) for case in chosen]
    unmixed = [unmix(c, stream) for c, stream in zip(colours, streams, strict=True)]
    slides = {
        case.id: _slide(case.labels, c, u, sharp, stream)
        for case, c, u, stream in zip(chosen, colours, unmixed, streams, strict=True)
    }
    found = {case.id: _calm(u.concentrations) for case, u in zip(chosen, unmixed, strict=True)}
    tissue = TissueModel.fit(chosen, lambda case: found[case.id], rng, *CLASSES, smooth=0.8, depths=DEPTHS_PX)
    return Learned(slides, tissue, patients_of(chosen))


def colours_of(case: Case) -> np.ndarray:
    """Return the colours of a case, 0 to 255, float32, shape ``(3, I, J, 1)``."""
    image = case.image.array
    low, high = (float(image.min()), float(image.max())) if image.size else (np.nan, np.nan)
    if image.shape[0] != 3 or image.shape[3] != 1 or not (low >= 0 and high <= 255) or high <= low:
        raise DataError(
            f"case {case.id!r} is no colour picture of a section: {image.shape[0]} channels, {image.shape[3]} slices, "
            f"values from {low:.4g} to {high:.4g}",
            file=case.file,
            why="stains are read off red, green and blue from 0 (dark) to 255 (bright)",
            fix="export the pictures as 8-bit RGB, or set learn = false to simulate without fitting",
        )
    return image.astype(np.float32) * np.float32(255 if high <= 1.0 else 1)


def nuclear_mask(labels: LabelMap) -> np.ndarray:
    """Return where nuclei are labelled, bool, shape ``(I, J, 1)``."""
    where = np.zeros(labels.geometry.shape, bool)
    for name, mask in zip(labels.scheme.names, labels.masks(), strict=True):
        if known_as(name) is not None and meanings_of([name], "")[0].bodies:
            where |= mask
    return where


def sharpness_of(green: np.ndarray, noise: float) -> float:
    """Return the share of a picture's detail that is fine: what a blur of 0.7 px takes over what one of 2.5 px takes.

    Parameters
    ----------
    green
        Grey values, shape ``(I, J)``.
    noise
        Standard deviation of the noise in it, whose part is taken off.
    """
    picture = green[None, ..., None].astype(np.float32)
    fine, coarse = (float(np.mean((picture - blur(picture, (s, s, 0))) ** 2)) for s in (0.7, 2.5))
    # White noise of variance 1 leaves 0.54 and 0.96 after these two high passes.
    return max(fine - 0.54 * noise**2, 1e-3) / max(coarse - 0.96 * noise**2, 1e-2)


def noise_of(green: np.ndarray) -> float:
    """Return the standard deviation of a picture's noise, from a second difference where it is most even.

    References
    ----------
    Immerkær J. Fast noise variance estimation. Computer Vision and Image Understanding 1996;64:300-302.
    """
    step = np.diff(np.diff(green.astype(np.float32), n=2, axis=0), n=2, axis=1) / 6.0
    smooth = blur(green[None, ..., None].astype(np.float32), (1.5, 1.5, 0))[0, 1:-1, 1:-1, 0]
    uneven = np.hypot(*np.gradient(smooth))
    calm = uneven <= np.quantile(uneven, 0.15)
    return float(1.4826 * np.median(np.abs(step[calm])))


def _slide(labels: LabelMap, colours: np.ndarray, found: Unmixed, sharp: Sharp, rng: np.random.Generator) -> Slide:
    nuclear = nuclear_mask(labels)
    tissue = found.concentrations[:2].sum(axis=0) > GLASS
    noise = float(np.clip(noise_of(colours[1, :, :, 0]), 0.0, 12.0))
    known = all(known_as(name) for name in labels.scheme.names) and nuclear.any()
    slide = Slide(
        found.vectors,
        found.white,
        1.0,
        noise,
        _levels(found.concentrations, tissue & ndimage.binary_erosion(nuclear, IN_PLANE), 1.0),
        _levels(found.concentrations, tissue & ~ndimage.binary_dilation(nuclear, IN_PLANE, NEAR_PX), 1 - UNLABELLED),
    )
    return replace(slide, blur_px=_blur_px(labels, colours, slide, sharp, rng)) if known else slide


def _blur_px(labels: LabelMap, colours: np.ndarray, slide: Slide, sharp: Sharp, rng: np.random.Generator) -> float:
    """Return the blur with which the case's own nuclei, painted, are as sharp as in its picture."""
    i, j, _ = labels.geometry.shape
    first = (max((i - SIDE_PX) // 2, 0), max((j - SIDE_PX) // 2, 0))
    piece = (slice(first[0], first[0] + SIDE_PX), slice(first[1], first[1] + SIDE_PX))
    part = LabelMap(labels.array[:, *piece], labels.scheme, labels.affine, labels.frame, labels.unit)
    painted = slide.red_cells(slide.matched(sharp(part, rng), nuclear_mask(part)))
    density = slide.vectors[1] @ painted.reshape(3, -1)
    green = (slide.white[1] * 10.0**-density).reshape(painted.shape[1:3]).astype(np.float32)
    wanted = sharpness_of(colours[1][*piece, 0], slide.noise)
    tried = [sharpness_of(blur(green[None, ..., None], (w, w, 0))[0, :, :, 0], 0.0) for w in WIDTHS_PX]
    # Sharpness falls as blur grows; interp wants rising abscissae.
    return float(np.interp(wanted, tried[::-1], WIDTHS_PX[::-1]))


def _levels(concentrations: np.ndarray, where: np.ndarray, kept: float) -> Levels | None:
    """Return haematoxylin and eosin of a region, without what holds more haematoxylin than a share of its pixels."""
    if where.sum() < FEWEST:
        return None
    smooth, grain = _split(concentrations[:2], where)
    known = smooth[0] <= np.quantile(smooth[0], kept)
    quantiles = np.quantile(smooth[:, known], np.linspace(0, 1, LEVELS), axis=1).T
    return Levels(quantiles, grain[:, known].std(axis=1))


def _split(stains: np.ndarray, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what is smooth and what is grain within a region, each of shape ``(2, N)``; its border is not crossed."""
    inside = where[None].astype(np.float32)
    sigma = (GRAIN_PX, GRAIN_PX, 0)
    weight = np.maximum(blur(inside, sigma)[0][where], 1e-3)
    smooth = blur(stains * inside, sigma)[:, where] / weight
    return smooth, stains[:, where] - smooth


def _calm(concentrations: np.ndarray) -> np.ndarray:
    """Return concentrations without the fine grain of the rest, which is noise and would make the tissue's."""
    out = concentrations.copy()
    out[2:] = blur(out[2:], (REST_PX, REST_PX, 0))
    return out


__all__ = ["Learned", "Slide", "colours_of", "learn_from", "noise_of", "nuclear_mask", "sharpness_of"]
