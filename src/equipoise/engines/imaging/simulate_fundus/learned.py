"""What training photographs say about a camera and its eyes, and pictures that look like theirs.

Label maps are shown with tissue from the photographs: wide regions of one, fine tissue from a `TissueModel`. Simulated
eyes keep their own structure, in the light of a photograph and with the contrasts of its vessels, disc and choroid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from equipoise.core import Case, LabelMap, patients_of
from equipoise.engines.imaging.simulate_fundus.layers import Light
from equipoise.engines.imaging.simulate_fundus.shots import (
    AROUND,
    FINE_PX,
    RED_OVER_GREEN,
    WIDEST_REST,
    Shot,
    noise_ruler,
    rest_of,
    shot_of,
    smooth_part,
    to_grey,
    vessel_contrast,
)
from equipoise.engines.parts.appearance import blur, correlated_noise
from equipoise.engines.parts.placement import Placement
from equipoise.engines.parts.retina import Field, Landmarks
from equipoise.engines.parts.retina_photograph import mean_where, photograph_of
from equipoise.engines.parts.tissue_model import TissueModel
from equipoise.errors import DataError

MOST_TISSUE = 16
"""Cases whose tissue is kept; every case's light is."""
CLASSES, SMOOTH_PX = (6, 3), 1.2
"""Sub-labels of what nobody labelled and of each label, and how far noise is smoothed before they are told apart."""
WIDE = 0.035
"""SD over the field's radius of the blur that parts regions (disc, macula, patches of choroid) from fine tissue."""
STEPS = 254
"""In which regions are stored, over twice `WIDEST_REST`."""
NOISELESS_PX = 0.9
"""SD of the blur that takes a sensor's noise out of tissue's texture."""
ON_DISC = np.array([0.35, 1.0, 1.1], np.float32)
"""Darkening of red, green and blue by vessels on the disc, over that of green."""
COARSE = 48
"""Samples per axis at which label maps are compared."""


@dataclass(frozen=True, eq=False)
class Learned:
    """All of them, and what tissue looks like.

    Parameters
    ----------
    parents
        The patients.
    shots
        By case.
    tissue
        Fine tissue: what is left without the regions.
    regions
        Wide differences from the smooth part by case, under labels as beside them, uint8 ``(C, I, J, 1)``.
    colours
        1 or 3.
    """

    parents: frozenset[str]
    shots: Mapping[str, Shot]
    tissue: TissueModel
    regions: Mapping[str, np.ndarray]
    colours: int

    def shot(self, rng: np.random.Generator) -> Shot:
        """Draw one photograph's light."""
        names = sorted(self.shots)
        return self.shots[names[int(rng.integers(len(names)))]]

    def pictured(
        self, labels: LabelMap, placement: Placement | None, texture: float, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, Shot]:
        """Return grey values ``(C, I, J)`` of a label map by learned tissue, what the aperture shows, and the light.

        Blur is that of the tissue's edges.
        """
        drawing, lighting, noise, darkness = rng.spawn(4)
        # Colours of tissue and of the light are one photograph's: where its red was full, tissue has no red contrast.
        names = sorted(self.tissue.looks)
        chosen = names[int(lighting.integers(len(names)))]
        tissue, shot = _of_one(self.tissue, chosen), self.shots[chosen]
        shape = labels.geometry.shape
        source = self.shots.get(placement.source) if placement else None
        if placement is None or placement.source not in self.regions:
            placement = self._nearest(labels)
        under = self.shots[placement.source]
        strength = np.clip(shot.spread / np.maximum(under.spread, 1e-3), 0.5, 2.0)
        wide = placement.carry(self.regions[placement.source])[..., 0].astype(np.float32) / STEPS - 0.5
        key = int(drawing.integers(2**62))
        even, full = (tissue.scene(labels, placement, np.random.default_rng(key), t)[..., 0] for t in (0.0, texture))
        # Learned texture holds the sensor's noise, the same in all directions; that is taken out and drawn as it is.
        rest = even + blur((full - even)[..., None], (NOISELESS_PX, NOISELESS_PX, 0))[..., 0]
        wide *= (2 * WIDEST_REST * strength)[:, None, None].astype(np.float32)
        if len(wide) == 3:  # what shines more in green does so in red, though a full sensor may not have shown it
            wide[0] = np.maximum(wide[0], RED_OVER_GREEN * np.maximum(wide[1], 0) - WIDEST_REST * (wide[1] <= 0))
        rest += wide
        own = source or shot
        first = _first(placement) if source else np.zeros(2)
        scale = np.ones(2) if source else np.divide(own.seen.shape, shape[:2])
        grid = [
            np.clip(np.rint(np.arange(n) * s + f), 0, m - 1).astype(np.intp)
            for n, s, f, m in zip(shape, scale, first, own.seen.shape, strict=False)
        ]
        seen = own.seen[np.ix_(*grid)]
        x, y = (
            (g.astype(np.float32) - c) / own.field.radius for g, c in zip(grid, (own.field.x, own.field.y), strict=True)
        )
        grey = to_grey(rest + smooth_part(shot.smooth, x, y))
        grey += texture * _sensed(shot, grey.shape, noise)
        return self.cut_out(grey, seen, shot, darkness), seen, shot

    def _nearest(self, labels: LabelMap) -> Placement:
        """Return the training case with the most similar labels, stretched over the grid."""
        wanted = _sampled(np.asarray(labels.masks()[..., 0].any(axis=0)))
        alike = {
            n: float((_sampled(self.tissue.region[m[..., 0]] > 0) & wanted).sum()) for n, m in self.tissue.maps.items()
        }
        source = max(sorted(alike), key=lambda name: alike[name])
        shape = labels.geometry.shape
        scale = np.array(self.tissue.maps[source].shape) / np.array(shape)
        return Placement(source, shape, np.diag(scale), 0.5 * scale - 0.5)

    def cut_out(self, grey: np.ndarray, seen: np.ndarray, shot: Shot, rng: np.random.Generator) -> np.ndarray:
        """Return a picture with black outside of what the aperture shows."""
        soft = blur(seen[None, :, :, None].astype(np.float32), (0.7, 0.7, 0))[0, :, :, 0]
        dark = shot.black[:, None, None] + 0.6 * rng.standard_normal(grey.shape, np.float32)
        return np.asarray(np.clip(dark + soft * (grey - dark), 0, 255), np.float32)

    def photographed(
        self, light: Light, landmarks: Landmarks, field: Field, vessels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, Shot]:
        """Return grey values of a simulated eye as one of the training photographs shows eyes.

        Illumination and mean colour are the photograph's; the eye's own structure is scaled in each colour so that
        choroid, vessels and disc have the photograph's contrasts.
        """
        lighting, noise, darkness = rng.spawn(3)
        shot = self.shot(lighting)
        x = (np.arange(light.fundus.shape[1], dtype=np.float32) - np.float32(field.x)) / np.float32(field.radius)
        y = (np.arange(light.fundus.shape[2], dtype=np.float32) - np.float32(field.y)) / np.float32(field.radius)
        if shot.right != landmarks.right:  # the camera stands on the other side of the nose
            x = -x
        rest = scaled_rest(light, landmarks, field, vessels, shot)
        linear = np.exp(rest + smooth_part(shot.smooth, x, y))
        sigma = shot.blur_px
        grey = to_grey(np.log(np.maximum(blur(linear[..., None], (sigma, sigma, 0.0))[..., 0], 1e-6)))
        grain, sensor = noise.spawn(2)
        tissue = correlated_noise((1, *grey.shape[1:], 1), (FINE_PX, FINE_PX, 0.0), grain)[..., 0]
        grey = grey + shot.fine[:, None, None] * tissue + _sensed(shot, grey.shape, sensor)
        seen = _aperture_like(shot, field, grey.shape[1:])
        return self.cut_out(grey, seen, shot, darkness), seen, shot


def learn_from(cases: Sequence[Case], rng: np.random.Generator) -> Learned:
    """Return what the photographs say.

    Raises
    ------
    DataError
        If there is no case, one is no photograph, or their numbers of colours differ.
    """
    if not cases:
        raise DataError("there is no training case to learn a camera from", fix="give at least one real case")
    shown = {case.id: photograph_of(case) for case in cases}
    counts = {len(photograph.colours) for photograph in shown.values()}
    if len(counts) > 1:
        raise DataError(
            "the training photographs have different numbers of colours, 1 and 3",
            fix="make all of them grey or all of them coloured",
        )
    tissue_rng, ruler_rng = rng.spawn(2)
    grains = noise_ruler(ruler_rng)
    shots = {case.id: shot_of(case, shown[case.id], grains) for case in cases}
    kept = list(cases[:MOST_TISSUE])
    rests = {case.id: rest_of(shown[case.id].colours, shots[case.id]) for case in kept}
    wide = {case.id: _regions(rests[case.id], case, shots[case.id]) for case in kept}
    tissue = TissueModel.fit(
        kept,
        lambda case: (rests[case.id] - _from_steps(wide[case.id]))[..., None],
        tissue_rng,
        *CLASSES,
        smooth=SMOOTH_PX,
    )
    regions = {name: steps[..., None] for name, steps in wide.items()}
    return Learned(patients_of(cases), shots, tissue, regions, counts.pop())


def _regions(rest: np.ndarray, case: Case, shot: Shot) -> np.ndarray:
    """Return the wide part of the rest beside labels, continued under them, in steps; uint8 ``(C, I, J)``."""
    known = 1.0 - ndimage.binary_dilation(case.labels.masks()[..., 0].any(axis=0), iterations=2)
    wide = np.stack([mean_where(channel, known, WIDE * shot.field.radius) for channel in rest])
    steps = np.rint((np.clip(wide / (2 * WIDEST_REST), -0.5, 0.5) + 0.5) * STEPS)
    return np.asarray(steps.astype(np.uint8))


def _from_steps(steps: np.ndarray) -> np.ndarray:
    return np.asarray((steps.astype(np.float32) / STEPS - 0.5) * 2 * WIDEST_REST)


def _sensed(shot: Shot, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return a photograph's noise, grey values ``(C, I, J)``."""
    grain = correlated_noise((*shape, 1), (*shot.grain_px, 0.0), rng)[..., 0]
    return np.asarray(shot.noise[:, None, None] * grain, np.float32)


def _of_one(tissue: TissueModel, name: str) -> TissueModel:
    """Return the tissue as one case shows it, with no more grain in labelled structures than beside them.

    What varies within a vessel is its reflex and its calibre, from one side to the other, not from pixel to pixel.
    """
    look = tissue.looks[name]
    size = np.sqrt(np.square(look.spread).sum(axis=(1, 2)))
    usual = float(np.median(size[tissue.region == 0]))
    calm = np.where(tissue.region > 0, np.minimum(1, usual / np.maximum(size, 1e-9)), 1)
    return replace(tissue, looks={name: replace(look, spread=look.spread * calm[:, None, None])})


def _sampled(mask: np.ndarray) -> np.ndarray:
    """Return where a mask lies on a grid of `COARSE` cells a side, whatever its size; any pixel fills a cell."""
    i, j = np.nonzero(mask)
    few = np.zeros((COARSE, COARSE), bool)
    few[i * COARSE // mask.shape[0], j * COARSE // mask.shape[1]] = True
    return few


def scaled_rest(light: Light, landmarks: Landmarks, field: Field, vessels: np.ndarray, shot: Shot) -> np.ndarray:
    """Return a simulated eye's logarithmic light beside its smooth part, with a photograph's contrasts."""
    i, j = np.ogrid[: vessels.shape[0], : vessels.shape[1]]
    inside = np.hypot(i - field.x, j - field.y) < 0.95 * field.radius
    disc = landmarks.disc.distance(i, j)
    around = inside & (disc > 0.4 * landmarks.disc.a)
    bare = np.log(np.maximum(light.fundus, 1e-6))
    full = np.log(np.maximum(light.vessels, 1e-6))
    middle = (
        np.median(bare[:, around][:, ::17], axis=1)[:, None, None]
        if around.any()
        else bare.mean(axis=(1, 2), keepdims=True)
    )
    bare = bare - middle
    pits = full - middle - bare
    spread = bare[:, around].std(axis=1) if around.any() else np.ones(len(bare))
    rest = bare * np.clip(shot.spread / np.maximum(spread, 1e-3), 0.1, 1.6)[:, None, None].astype(np.float32)
    head = inside & (disc < -0.2 * landmarks.disc.a)
    share = 1 / (1 + np.exp(np.clip(disc * landmarks.um_per_px / 25.0, -30, 30)))
    if head.any() and np.isfinite(shot.disc).all():
        target = shot.disc[:, None, None] - rest[:, head].mean(axis=1)[:, None, None]
        rest = rest + (share * target).astype(np.float32)
    pits, factor = _vessels_like(pits, vessels & around, field, shot)
    if len(pits) == 3:
        # On the disc, which is bright in all colours, vessels are red whatever the camera shows of them elsewhere.
        pits += share.astype(np.float32) * (pits[1] * ON_DISC[:, None, None] - pits)
    rest += pits
    if light.total is not light.vessels:
        rest += min(factor, 1.0) * np.log(np.maximum(light.total, 1e-6) / np.maximum(light.vessels, 1e-6))
    return np.asarray(rest, np.float32)


def _vessels_like(pits: np.ndarray, vessels: np.ndarray, field: Field, shot: Shot) -> tuple[np.ndarray, float]:
    """Return the darkening by vessels with a photograph's contrasts, and the factor on its contrast in green."""
    soft = blur(pits[..., None], (shot.blur_px, shot.blur_px, 0))[..., 0]
    deep = vessel_contrast(soft, vessels, AROUND * field.radius)
    if not (np.isfinite(deep).all() and np.isfinite(shot.vessel).all()):
        return pits, 1.0
    deep, target = np.minimum(deep, -0.02), np.minimum(shot.vessel, -0.005)
    green = min(1, len(pits) - 1)
    factor = float(np.clip(target[green] / deep[green], 0.1, 3.0))
    return _matched(pits, deep, target, factor), factor


def _matched(pits: np.ndarray, deep: np.ndarray, target: np.ndarray, factor: float) -> np.ndarray:
    """Return the darkening by vessels with other mean contrasts: green by a factor, the others by a part of green."""
    green = min(1, len(pits) - 1)
    share = (target - factor * deep) / (factor * deep[green])
    scaled = factor * (pits + share[:, None, None].astype(np.float32) * pits[green])
    # On the disc, as bright as a camera can show, vessels are no darker than elsewhere by much.
    most = np.maximum(-2.5 * target, 0.05)[:, None, None].astype(np.float32)
    return np.asarray(np.where(scaled < 0, -most * np.tanh(-scaled / most), scaled))


def _first(placement: Placement) -> np.ndarray:
    """Return where the window that was deformed began on the source's grid."""
    centre = (np.array(placement.shape) - 1) / 2
    return np.asarray((placement.offset + placement.matrix @ centre - centre)[:2])


def _aperture_like(shot: Shot, field: Field, shape: tuple[int, ...]) -> np.ndarray:
    """Return a photograph's aperture around another field."""
    scale = shot.field.radius / field.radius
    grid = [
        np.rint((np.arange(n) - c) * scale + d).astype(np.intp)
        for n, c, d in zip(shape, (field.x, field.y), (shot.field.x, shot.field.y), strict=True)
    ]
    i, j = (np.clip(g, 0, m - 1) for g, m in zip(grid, shot.seen.shape, strict=True))
    return np.asarray(shot.seen[np.ix_(i, j)])


__all__ = ["Learned", "learn_from"]
