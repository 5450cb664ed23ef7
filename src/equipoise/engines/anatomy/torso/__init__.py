"""The torso: `Torso` draws it; profiles, bones, organs and trees lie beside it."""

from equipoise.engines.anatomy.torso.anatomy import Torso

__all__ = ["Torso"]
