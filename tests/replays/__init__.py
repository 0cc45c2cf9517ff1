"""Streams replayed by other code."""
