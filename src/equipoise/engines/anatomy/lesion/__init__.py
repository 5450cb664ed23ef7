"""Kind ``lesion``: lesions of a grammar, drawn into the label maps of any other anatomy."""

from equipoise.engines.anatomy.lesion.kind import Lesion

__all__ = ["Lesion"]
