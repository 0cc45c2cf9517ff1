"""The names of the roles in PostgreSQL that an application, its worker and its people connect as."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.mapping.statements import literal_name

if TYPE_CHECKING:
    from sa_eventsource.mapping.statements import Rendering

_LONGEST_NAME = 63


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """Roles of PostgreSQL, each with the rights that its work needs and no others: ``EventSourceOptions(roles=Roles())``.

    None of them owns the tables, may change or delete events, or may drop or disable what guards them.

    Attributes:
        app: Appends and reads events, and writes what is written with them: snapshots, strong read models, commands.
        worker: Does the same, as handlers and process managers do, and writes eventual read models, checkpoints, parked events.
        reader: Only reads, and nothing that may hold personal data in clear.
        privacy_officer: Forgets people.
    """

    app: str = "eventsource_app"
    worker: str = "eventsource_worker"
    reader: str = "eventsource_reader"
    privacy_officer: str = "eventsource_privacy_officer"

    def __post_init__(self) -> None:
        """Check that they can be four roles.

        Raises:
            DeclarationError: A name is empty or too long, or is given twice.
        """
        for each in fields(self):
            name = getattr(self, each.name)
            if not isinstance(name, str) or not 0 < len(name.encode()) <= _LONGEST_NAME:
                raise DeclarationError(f"Roles({each.name}={name!r}): the name of a role is a text of 1 to {_LONGEST_NAME} bytes")
        if len(set(self.names())) < len(self.names()):
            raise DeclarationError(f"{self}: these are four roles; give each a name of its own")

    def names(self) -> tuple[str, ...]:
        """List the names."""
        return tuple(getattr(self, each.name) for each in fields(self))


def create_role(role: str) -> Rendering:
    """Give what renders the statement that creates a role unless it is there."""
    return lambda names: (
        f"DO $do$ BEGIN IF to_regrole({literal_name(names.bare(role))}) IS NULL THEN "
        f"CREATE ROLE {names.bare(role)} NOLOGIN; END IF; END $do$"
    )
