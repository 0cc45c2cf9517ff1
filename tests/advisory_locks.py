"""Advisory locks of a test's own database: the view shows those of all databases of the server, and so of other tests."""

from __future__ import annotations

OWN_ADVISORY_LOCKS = (
    "pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
"""What follows ``FROM``; further conditions may follow it."""
