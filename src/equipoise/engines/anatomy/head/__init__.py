"""Kind ``head``: label maps of the head, from skin to ventricles."""

from equipoise.engines.anatomy.head.kind import Head

__all__ = ["Head"]
