"""Kind ``simulate-ct``: CT physics on any label map."""

from equipoise.engines.imaging.simulate_ct.engine import SimulateCT

__all__ = ["SimulateCT"]
