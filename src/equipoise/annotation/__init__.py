"""Several readers' work on one case: consensus, agreement, and later assignment, journal, reader model and cost."""
