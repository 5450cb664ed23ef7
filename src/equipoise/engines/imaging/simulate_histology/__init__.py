"""Kind ``simulate-histology``: H&E of any label map of tissue."""

from equipoise.engines.imaging.simulate_histology.engine import SimulateHistology

__all__ = ["SimulateHistology"]
