"""Stored events that are read as several events, or as none."""
