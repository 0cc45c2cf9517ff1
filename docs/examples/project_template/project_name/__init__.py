"""Orders, kept as events."""
