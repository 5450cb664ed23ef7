"""Kind ``simulate-mri``: magnetic resonance physics, or any contrast, on any label map."""

from equipoise.engines.imaging.simulate_mri.engine import SimulateMRI

__all__ = ["SimulateMRI"]
