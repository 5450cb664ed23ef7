"""Kind ``flow``: see `equipoise.engines.imaging.flow.engine`."""

from equipoise.engines.imaging.flow.engine import Flow

__all__ = ["Flow"]
