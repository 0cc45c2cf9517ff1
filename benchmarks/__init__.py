"""Measures sa_eventsource against raw psycopg and a plain ORM, interleaved in one run."""
