"""Kind ``diffusion``: see `equipoise.engines.imaging.diffusion.engine`."""

from equipoise.engines.imaging.diffusion.engine import Diffusion

__all__ = ["Diffusion"]
