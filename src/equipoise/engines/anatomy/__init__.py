"""Where label maps come from: one module per kind."""
