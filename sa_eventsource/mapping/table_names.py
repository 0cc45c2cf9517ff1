"""Names that the application's tables have, and the library's would have too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.mapping.partitions import partition_name

if TYPE_CHECKING:
    from sqlalchemy import MetaData

    from sa_eventsource.mapping.tables import EventSourceOptions


def refuse_taken_names(metadata: MetaData, options: EventSourceOptions) -> None:
    """Refuse metadata that has a table of a name which one of the library's would have.

    Raises:
        DeclarationError: It has.
    """
    schema = options.schema or metadata.schema
    for field_name, name in options.names().items():
        if (name if schema is None else f"{schema}.{name}") in metadata.tables:
            raise DeclarationError(
                f"this metadata has a table named {name!r} already, and the library would add one of that name. "
                f"{renaming(field_name)}"
            )


def refuse_double_names(options: EventSourceOptions) -> None:
    """Refuse options that give one name to two tables, or to a table and a partition.

    Raises:
        DeclarationError: They do.
    """
    named = {partition_name(options.events, number): "partitions" for number in range(options.partitions or 0)}
    for field_name, name in options.names().items():
        if name in named:
            raise DeclarationError(
                f"EventSourceOptions(): {named[name]} and {field_name} both name a table {name!r}. Give each a name of its own, "
                f'such as {field_name}="stored_{field_name}".'
            )
        named[name] = field_name


def renaming(field_name: str) -> str:
    """Say how the library's table is given another name.

    Args:
        field_name: The option that names it.
    """
    return (
        "Rename the library's: on the declarative base, write __eventsource__ = "
        f'EventSourceOptions({field_name}="stored_{field_name}"), '
        "or give all of its tables a schema: EventSourceOptions(schema=...)."
    )
