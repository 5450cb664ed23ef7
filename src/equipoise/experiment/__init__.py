"""Plan, sealed vault, arms x sizes x replicates to rows, and what the rows say."""
