"""What the learned engines share: examples, intensities, the course of a training, tiles, checkpoints."""
