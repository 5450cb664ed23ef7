"""Kind ``gan``: see `equipoise.engines.imaging.gan.engine`."""

from equipoise.engines.imaging.gan.engine import Gan

__all__ = ["Gan"]
