"""Makers of synthetic annotated cases: anatomy draws a label map, imaging renders a picture of it."""
