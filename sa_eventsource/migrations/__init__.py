"""Alembic: importing this package teaches it the library's column types, triggers, partitions and the rights of roles.

Needs the ``alembic`` extra.
"""

from sa_eventsource.extras import needs_extra
from sa_eventsource.migrations.template import template_path

with needs_extra("alembic", part="sa_eventsource.migrations"):
    from sa_eventsource.migrations import operations, partition_operations, recorded_at, role_operations, tenant_operations
    from sa_eventsource.migrations.autogenerate import render_item

__all__ = [
    "operations",
    "partition_operations",
    "recorded_at",
    "render_item",
    "role_operations",
    "template_path",
    "tenant_operations",
]
