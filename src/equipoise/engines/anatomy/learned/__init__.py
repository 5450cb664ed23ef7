"""Kind ``learned``: label maps from a generative model of the training patients' label maps."""

from equipoise.engines.anatomy.learned.kind import LearnedAnatomy

__all__ = ["LearnedAnatomy"]
