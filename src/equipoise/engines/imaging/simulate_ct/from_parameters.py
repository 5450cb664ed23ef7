"""What the parameters of `simulate-ct` mean: its scanner, its tissues, the lung, and how pictures are stored."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from equipoise.engines.imaging.simulate_ct.acquisition import Ranges
from equipoise.engines.imaging.simulate_ct.grey import Export
from equipoise.engines.imaging.simulate_ct.learned import Learned
from equipoise.engines.imaging.simulate_ct.scan import Gantry
from equipoise.engines.imaging.simulate_ct.scene import TABLE_HU, Tissues
from equipoise.engines.parts.beam_hardening import CtBeam
from equipoise.engines.parts.lung import LungModel


def export_of(engine: Any) -> Export:
    """Return how pictures without HU or without a size are read and written."""
    return Export(engine.stored, engine.pixel_mm, engine.thickness_mm)


def gantry_of(engine: Any) -> Gantry:
    """Return the scanner that the parameters describe, where no profile is named."""
    plain = engine.kvp is None and not engine.bowtie_mm
    beam = None if plain else CtBeam(engine.kev, engine.kvp, bowtie_mm=engine.bowtie_mm)
    source = engine.source_mm if engine.geometry == "fan" else None
    body = engine.views, engine.electronic_sd, engine.body_mm, engine.kev, engine.modulation
    return Gantry(*body, beam, engine.water_correction, source)


def ranges_of(engine: Any) -> Ranges:
    """Return what acquisitions are drawn from."""
    how = engine.kernels, engine.cutoff, engine.photons, engine.blur_mm
    lung, slices = (engine.lung_sd, engine.vessels), (engine.thickness_mm, engine.motion_mm)
    return Ranges(engine.scanner, *how, *lung, *slices, engine.drift_hu, gantry_of(engine))


def tissues_of(engine: Any, learned: Learned | None, contrast: float = 0.0) -> Tissues:
    """Return how dense structures are: by the tables, what the user states, and what was learned.

    Parameters
    ----------
    contrast
        HU that contrast medium adds to blood.
    """
    shares = engine.part_solid, engine.ground_glass
    priors = {**TABLE_HU, **engine.hu}
    prior = Tissues(priors, engine.inner_sd, engine.margin_mm, *shares).enhanced(contrast)
    if learned is None:
        return prior
    margin_mm = engine.margin_mm if learned.margin_mm is None else learned.margin_mm
    return replace(prior, levels=learned.levels, textures=learned.textures, margin_mm=margin_mm)


def lung_of(engine: Any, texture_hu: float, vessels: float, learned: Learned | None = None) -> LungModel:
    """Return what is drawn around the labels, with the wall where the training cases have it."""
    pleural = engine.pleural if learned is None or learned.pleural is None else learned.pleural
    wall_mm = engine.wall_mm if learned is None or learned.wall_mm is None else learned.wall_mm
    return LungModel(texture_hu, vessels, pleural, wall_mm, engine.fed)


__all__ = ["export_of", "gantry_of", "lung_of", "ranges_of", "tissues_of"]
