"""Contract suites: subclass one, say how your kind is made, and inherit its tests."""

from equipoise.testing.engine_contract import EngineContract, phantom_cases

__all__ = ["EngineContract", "phantom_cases"]
