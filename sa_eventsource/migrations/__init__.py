"""Alembic: importing this package teaches it the library's column types and the trigger on events. Needs the ``alembic`` extra."""

from sa_eventsource.extras import needs_extra
from sa_eventsource.migrations.template import template_path

with needs_extra("alembic", "sa_eventsource.migrations"):
    from sa_eventsource.migrations import operations, recorded_at
    from sa_eventsource.migrations.autogenerate import render_item

__all__ = ["operations", "recorded_at", "render_item", "template_path"]
