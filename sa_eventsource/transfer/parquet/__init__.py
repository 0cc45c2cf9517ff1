"""A log in a Parquet file, and from one into a log. Needs the ``parquet`` extra (PyArrow)."""

from sa_eventsource.extras import needs_extra

with needs_extra("parquet", part="sa_eventsource.transfer.parquet"):
    from sa_eventsource.transfer.parquet.parquet_export import export_parquet
    from sa_eventsource.transfer.parquet.parquet_import import import_parquet, parquet_events

__all__ = [
    "export_parquet",
    "import_parquet",
    "parquet_events",
]
