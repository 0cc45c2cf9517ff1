"""One door for each database: whatever PostgreSQL and SQLite do in different ways is asked for here."""

from sa_eventsource.store.databases.database import Database, OpenWriter, milliseconds
from sa_eventsource.store.databases.databases import database_of
from sa_eventsource.store.databases.insert_forms import INCOMPLETE, InsertStatements

__all__ = ["INCOMPLETE", "Database", "InsertStatements", "OpenWriter", "database_of", "milliseconds"]
