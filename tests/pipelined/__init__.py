"""Engines of ``postgresql+psycopg_pipelined://``."""
