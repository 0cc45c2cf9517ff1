"""Alembic: importing this package teaches it the library's column types and the trigger on events. Needs the ``alembic`` extra."""

from sa_eventsource.migrations import operations, recorded_at
from sa_eventsource.migrations.autogenerate import render_item
from sa_eventsource.migrations.template import template_path

__all__ = ["operations", "recorded_at", "render_item", "template_path"]
