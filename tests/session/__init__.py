"""Aggregates in a SQLAlchemy session, on real databases."""
