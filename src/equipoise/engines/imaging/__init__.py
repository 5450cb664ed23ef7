"""How a picture of a label map is made: one module per kind."""
