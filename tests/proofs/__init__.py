"""Proofs: a model, real concurrency, crashes, and the facts about SQLAlchemy and PostgreSQL that the library rests on."""
