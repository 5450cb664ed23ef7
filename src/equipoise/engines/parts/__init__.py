"""Physics and arithmetic that several kinds of engine share."""
