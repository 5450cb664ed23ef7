"""Kind ``simulate-ultrasound``: B-mode physics on any label map."""

from equipoise.engines.imaging.simulate_ultrasound.engine import SimulateUltrasound

__all__ = ["SimulateUltrasound"]
