"""What the numbers among the parameters of `simulate-mri` may be: smallest, largest, unit."""

from __future__ import annotations

RANGES = (
    ("te_ms", 0.0, 1e4, "ms"),
    ("tr_ms", 0.0, 1e5, "ms"),
    ("ti_ms", 0.0, 1e5, "ms"),
    ("flip_degrees", 0.0, 180.0, "degrees"),
    ("snr", 1.0, 1e6, ""),
    ("thickness_mm", 0.01, 50.0, "mm"),
    ("resolution", 0.1, 1.0, ""),
    ("partial_fourier", 0.5, 1, ""),
    ("taper", 0, 1, ""),
    ("ghost", 0, 1, ""),
    ("spike", 0, 10, ""),
    ("fat", 0, 1, ""),
)
NUMBERS = (
    ("motion", 0, 1, ""),
    ("ghosting", 0, 1, ""),
    ("spiking", 0, 1, ""),
    ("warp", 0, 1, ""),
    ("motion_mm", 0, 20, "mm"),
    ("motion_degrees", 0, 20, "degrees"),
    ("bias", 0, 1, ""),
    ("transmit", 0, 2, ""),
    ("texture", 0, 0.5, ""),
    ("pixel_mm", 1e-3, 50, "mm"),
    ("classes", 1, 32, "sub-labels"),
    ("inner", 1, 32, "sub-labels"),
)

__all__ = ["NUMBERS", "RANGES"]
