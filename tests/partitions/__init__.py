"""A log with hash partitions."""
