from __future__ import annotations

from equipoise.learners.unet import UNet
from equipoise.testing.learner_contract import LearnerContract


class TestUNetOnSlices(LearnerContract):
    def make(self) -> UNet:
        return UNet(patch=32, batch=4, channels=(8, 16, 16))


class TestUNetOnVolumes(LearnerContract):
    shape = (20, 18, 14)
    steps = 60

    def make(self) -> UNet:
        return UNet(patch=(16, 16, 12), batch=4, channels=(8, 16, 16), fold=1)
