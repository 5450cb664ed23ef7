"""Kind ``breast-and-neck``: blocks of soft tissue under an ultrasound probe."""

from equipoise.engines.anatomy.breast_and_neck.kind import BreastAndNeck

__all__ = ["BreastAndNeck"]
