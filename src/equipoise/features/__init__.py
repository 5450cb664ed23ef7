"""What images look like, in numbers: hand-made features, and how well they tell two sets apart."""

from __future__ import annotations

from equipoise.features.handmade import FEATURES_PER_CHANNEL, features_of, normalised, patches_of
from equipoise.features.told_apart import ToldApart, tell_apart

__all__ = ["FEATURES_PER_CHANNEL", "ToldApart", "features_of", "normalised", "patches_of", "tell_apart"]
