"""Bringing a log from one database to another: exported line by line, imported with every line checked."""

from sa_eventsource.transfer.import_target import ImportedLog
from sa_eventsource.transfer.log_export import export_events
from sa_eventsource.transfer.log_import import import_events
from sa_eventsource.transfer.parquet_on_demand import load_parquet

__all__ = [
    "ImportedLog",
    "export_events",
    "import_events",
    "load_parquet",
]
