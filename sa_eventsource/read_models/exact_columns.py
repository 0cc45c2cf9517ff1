"""Which columns of a model's own table hold values as they were worked out, as far as the application chooses their types.

Where the database, or a type of the application's own, changes a value on its way into a row, the row would be another one than its
events make, and one that depends on how many events came together. Decimal places are no such change: they are known, so each value
is rounded to them before anything is made of it.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import ARRAY, CHAR, REAL, Date, DateTime, Float, Integer, Numeric, Time, TypeDecorator

from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.read_models.value_types import EXACT

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.types import TypeEngine

    from sa_eventsource.read_models.value_types import Kind

_DIGITS_OF_DOUBLE = 25
"""PostgreSQL's ``float(n)`` is a double from 25 binary digits on, and has 32 bits below."""


def check_column_type(where: str, column_type: TypeEngine[Any], kind: Kind) -> None:
    """Refuse a column that changes the values of a field.

    Args:
        where: The field, for the message.
        column_type: The type that the application gives its column.
        kind: What the field holds.

    Raises:
        DeclarationError: It does so; the message says what to write.
    """
    advice = next((what for held, changed, what in _NARROWER if kind == held and isinstance(column_type, changed)), None)
    advice = advice or _advice(column_type)
    if advice is not None:
        raise DeclarationError(
            f"{where} has a column of type {column_type!r}, which changes values when a row is stored, so that the row would hold "
            f"another value than its events make; {advice}"
        )


def places_of(column_type: TypeEngine[Any]) -> int | None:
    """Get how many decimal places a column keeps; None for as many as there are."""
    if not isinstance(column_type, Numeric) or isinstance(column_type, Float):
        return None
    if column_type.scale is None and column_type.precision is not None:
        return 0  # in SQL, numeric(5) has none
    return column_type.scale


def rounded(value: Any, places: int | None) -> Any:
    """Round a decimal to the places of its column, as the database does; anything else stays."""
    if places is None or not isinstance(value, Decimal) or not value.is_finite():
        return value
    return value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP, EXACT)


def _advice(column_type: TypeEngine[Any]) -> str | None:
    if isinstance(column_type, ARRAY):
        item: TypeEngine[Any] = column_type.item_type
        return _advice(item) if places_of(item) is None else "write Numeric without places, and round values before they are stored"
    return next((advice for changes, advice in _CHANGES if changes(column_type)), None)


def _is_short_float(column_type: Any) -> bool:
    is_short = column_type.precision is not None and column_type.precision < _DIGITS_OF_DOUBLE
    return is_short or bool(column_type.asdecimal) or isinstance(column_type, REAL)


_CHANGES: tuple[tuple[Callable[[Any], bool], str], ...] = (
    (lambda each: isinstance(each, TypeDecorator), "leave the type out, and change values before they are stored"),
    (lambda each: isinstance(each, Float) and _is_short_float(each), "write Double"),
    (
        lambda each: isinstance(each, Numeric) and not each.asdecimal and not isinstance(each, Float),
        "annotate Mapped[Decimal], or write Double",
    ),
    (lambda each: isinstance(each, DateTime) and not each.timezone, "write DateTime(timezone=True), or leave the type out"),
    (
        lambda each: isinstance(each, DateTime | Time) and getattr(each, "precision", None) is not None,
        "leave the precision out, and round values before they are stored",
    ),
    (lambda each: isinstance(each, CHAR), "write String"),
)

_NARROWER: tuple[tuple[Kind, tuple[type[Any], ...], str], ...] = (
    ("decimal", (Integer, Float), "write Numeric, or leave the type out"),
    ("float", (Integer,), "write Double, or leave the type out"),
    ("moment", (Date,), "write DateTime(timezone=True), or leave the type out"),
)
"""Columns that SQL fills with what a field holds, and that have less room than it needs."""
