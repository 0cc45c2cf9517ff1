"""``projected()``: the rows of a read model, worked out from events in memory."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.orm import class_mapper

from sa_eventsource.events import DomainEvent, RecordedEvent
from sa_eventsource.exceptions import NoDatabaseError
from sa_eventsource.read_models import ReadModel, definition_of, fold
from sa_eventsource.testing.recording import recorded

if TYPE_CHECKING:
    from collections.abc import Iterable

R = TypeVar("R", bound=ReadModel)


def projected(model: type[R], events: Iterable[DomainEvent | RecordedEvent[Any]]) -> dict[Any, R]:
    """Work out the rows that follow from events, without a database: what the model's declaration means.

    Example::

        rows = projected(OrderList, recorded(OrderPlaced(total=10), OrderPaid(payment_id="p-1"), id="o-1"))
        assert rows["o-1"].status == "paid"

    Args:
        model: The read model. Its rows are those that every way of following the log leads to; :func:`read_model_laws` holds it to
            that.
        events: Recorded events, of one stream or of several, such as :func:`recorded` and ``Outcome.events`` give. They are taken
            in this order: their positions are given again. Plain events are those of one stream, with the id ``"1"``.

    Returns:
        The rows by key, which is a tuple where several fields are the key. They are instances of the model, in no session.

    Raises:
        NoDatabaseError: The model has ``@handles`` methods, which write rows by themselves. Test it with ``eventsource_worker``.
        DeclarationError: *model* is no mapped read model.
        TypeError: One of *events* is no event.
        Exception: Whatever an ``@evolves`` method raised.
    """
    definition = definition_of(model)
    if definition.handlers:
        raise NoDatabaseError(
            f"the @handles methods of {model.__name__}", instead="apply events in a session, and take eventsource_worker"
        )
    manager = class_mapper(model).class_manager
    rows = {}
    for key, values in fold(model, _in_order(events)).items():
        row: Any = manager.new_instance()
        vars(row).update(values)
        rows[key] = row
    return rows


def _in_order(events: Iterable[DomainEvent | RecordedEvent[Any]]) -> list[RecordedEvent[Any]]:
    ordered, version = [], 0
    for position, each in enumerate(events, 1):
        if isinstance(each, RecordedEvent):
            ordered.append(replace(each, position=position))
        elif isinstance(each, DomainEvent):
            version += 1
            ordered += recorded(each, position=position, version=version)
        else:
            raise TypeError(f"projected() takes events, recorded or plain ones, not {each!r}")
    return ordered
