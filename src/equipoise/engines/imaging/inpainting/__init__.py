"""Kind ``inpainting``: see `equipoise.engines.imaging.inpainting.engine`."""

from equipoise.engines.imaging.inpainting.engine import Inpainting

__all__ = ["Inpainting"]
