"""JSON as the standard has it: no NaN, no infinity."""

from __future__ import annotations

import math
from typing import Any


def strict(value: Any) -> Any:
    """Return the value with ``None`` for numbers that JSON does not have: NaN and the infinities."""
    if isinstance(value, dict):
        return {str(k): strict(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
