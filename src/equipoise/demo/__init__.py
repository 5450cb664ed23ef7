"""The embedded default: radiologists' real outlines of lung nodules on pixels from a hidden, simulated world."""
