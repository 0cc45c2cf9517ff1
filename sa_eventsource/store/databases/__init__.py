"""One door for each database: whatever PostgreSQL and SQLite do in different ways is asked for here."""

from sa_eventsource.store.databases.database import IDS_AT_ONCE, Database, OpenWriter, milliseconds
from sa_eventsource.store.databases.databases import database_of
from sa_eventsource.store.databases.insert_forms import INCOMPLETE, InsertStatements, KeysToLock, parameters_of

__all__ = [
    "IDS_AT_ONCE",
    "INCOMPLETE",
    "Database",
    "InsertStatements",
    "KeysToLock",
    "OpenWriter",
    "database_of",
    "milliseconds",
    "parameters_of",
]
