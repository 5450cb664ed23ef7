"""Changes of a real pair of image and labels: the classical ones of every arm, and an engine that goes beyond them."""
