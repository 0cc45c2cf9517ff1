"""What SQLAlchemy calls where a session writes a row, and nobody would where the library writes it by a statement of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import class_mapper

from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.read_models.evolving import evolved_names
from sa_eventsource.read_models.read_model_definition import definition_of

if TYPE_CHECKING:
    from sa_eventsource.read_models.read_model_definition import ReadModelDefinition


def refuse_uncalled(model: type[Any]) -> None:
    """Refuse ``@validates`` and ``onupdate=`` for columns that only statements of the library write.

    Methods with ``@evolves`` set attributes of an instance, which calls the validators; handlers write as any application does.

    Raises:
        DeclarationError: There is one.
    """
    definition = definition_of(model)
    mapper = class_mapper(model, configure=False)
    written = _written_by_statements(definition)
    validated = [name for name in mapper.validators if name in written - evolved_names(definition)]
    if validated:
        name = validated[0]
        raise DeclarationError(
            f"{model.__name__}: @validates({name!r}) would never be called, since {name} follows from events, and a statement "
            "writes it. Check the value in the event's class by Pydantic, before it is stored; what has to be worked out or "
            "checked in Python is for a field that an @evolves method sets."
        )
    updated = [name for name in sorted(written) if getattr(mapper.columns[name], "onupdate", None) is not None]
    if updated:
        raise DeclarationError(
            f"{model.__name__}.{updated[0]} has an onupdate=, which would never be called, since events change the row, and a "
            "statement writes it. The row's updated_at is the time of the last event; else leave it to a trigger of the database."
        )


def _written_by_statements(definition: ReadModelDefinition) -> set[str]:
    if not definition.events:
        return set()
    return set(definition.row_names) if definition.handlers else set(class_mapper(definition.model, configure=False).columns.keys())
