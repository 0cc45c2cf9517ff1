"""Bringing a log from one database to another: exported line by line, imported with every line checked."""

from sa_eventsource.transfer.transfer import ImportedLog, export_events, import_events

__all__ = [
    "ImportedLog",
    "export_events",
    "import_events",
]
