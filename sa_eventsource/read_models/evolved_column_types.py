"""Which columns an ``@evolves`` method may set: those of which Python knows, before a row is stored, what it would give back.

Between two events a row may be stored or not. Where the database, or a type of the application's own, changes the value on its way,
the next event would find another one depending on how many events came together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ARRAY, CHAR, REAL, DateTime, Float, Numeric, Time, TypeDecorator

from sa_eventsource.exceptions import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.types import TypeEngine

_DIGITS_OF_DOUBLE = 25
"""PostgreSQL's ``float(n)`` is a double from 25 binary digits on, and has 32 bits below."""


def check_column_type(where: str, column_type: TypeEngine[Any]) -> None:
    """Refuse a column that changes values in a way that only a stored row shows.

    Args:
        where: The field, for the message.
        column_type: The type that the application gives its column.

    Raises:
        DeclarationError: It does so; the message says what to write.
    """
    advice = _advice(column_type)
    if advice is not None:
        raise DeclarationError(
            f"{where} has a column of type {column_type!r}, which changes values when a row is stored, so that an @evolves method "
            f"would find another value than it has set; {advice}"
        )


def places_of(column_type: TypeEngine[Any]) -> int | None:
    """Get how many decimal places a column keeps; None for as many as there are."""
    if not isinstance(column_type, Numeric) or isinstance(column_type, Float):
        return None
    if column_type.scale is None and column_type.precision is not None:
        return 0  # in SQL, numeric(5) has none
    return column_type.scale


def _advice(column_type: TypeEngine[Any]) -> str | None:
    if isinstance(column_type, ARRAY):
        item: TypeEngine[Any] = column_type.item_type
        return _advice(item) if places_of(item) is None else "write Numeric without places, and round in the method"
    return next((advice for changes, advice in _CHANGES if changes(column_type)), None)


def _is_short_float(column_type: Any) -> bool:
    is_short = column_type.precision is not None and column_type.precision < _DIGITS_OF_DOUBLE
    return is_short or bool(column_type.asdecimal) or isinstance(column_type, REAL)


_CHANGES: tuple[tuple[Callable[[Any], bool], str], ...] = (
    (lambda each: isinstance(each, TypeDecorator), "leave the type out, and change the value in the method"),
    (lambda each: isinstance(each, Float) and _is_short_float(each), "write Double"),
    (
        lambda each: isinstance(each, Numeric) and not each.asdecimal and not isinstance(each, Float),
        "annotate Mapped[Decimal], or write Double",
    ),
    (lambda each: isinstance(each, DateTime) and not each.timezone, "write DateTime(timezone=True), or leave the type out"),
    (
        lambda each: isinstance(each, DateTime | Time) and getattr(each, "precision", None) is not None,
        "leave the precision out, and round in the method",
    ),
    (lambda each: isinstance(each, CHAR), "write String"),
)
