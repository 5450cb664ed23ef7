"""Fair trials of training data for medical-imaging AI: synthetic, real, or which mix of both."""

__version__ = "0.1.0"
