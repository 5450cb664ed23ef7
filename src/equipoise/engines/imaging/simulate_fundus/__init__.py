"""Kind ``simulate-fundus``: colour photographs of the retina."""

from equipoise.engines.imaging.simulate_fundus.engine import SimulateFundus

__all__ = ["SimulateFundus"]
