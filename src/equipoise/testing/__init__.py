"""Contract suites: subclass one, say how your kind is made, and inherit its tests."""

from equipoise.testing.anatomy_contract import AnatomyContract, lesion_cases
from equipoise.testing.engine_contract import EngineContract, phantom_cases
from equipoise.testing.learner_contract import LearnerContract

__all__ = ["AnatomyContract", "EngineContract", "LearnerContract", "lesion_cases", "phantom_cases"]
