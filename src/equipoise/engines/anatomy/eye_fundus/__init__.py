"""Kind ``eye-fundus``: the posterior pole of an eye."""

from equipoise.engines.anatomy.eye_fundus.kind import EyeFundus

__all__ = ["EyeFundus"]
