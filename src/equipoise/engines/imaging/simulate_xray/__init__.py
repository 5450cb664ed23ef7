"""Radiographs: `SimulateXRay` is the engine; projection, spectrum, detector and what it learns lie beside it."""

from equipoise.engines.imaging.simulate_xray.engine import SimulateXRay

__all__ = ["SimulateXRay"]
