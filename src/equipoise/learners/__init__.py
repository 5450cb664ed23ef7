"""Learners: kinds that turn a guarded training set into a predictor."""
