"""Lists put together from events, in SQL.

A list is kept as entries ``[position, value, 1 or -1]``: what was appended, and what was removed. A removal stays, so that an
entry which arrives late, as those of other streams may, is still removed if its position is the lower one. Of parts of
a stored event, the position has the number of the part behind its point.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Integer, Numeric, cast, func, literal_column, select
from sqlalchemy.dialects.postgresql import JSONB, aggregate_order_by

from sa_eventsource.mapping import quoted

if TYPE_CHECKING:
    from sa_eventsource.read_models.value_types import ValueType

EMPTY = cast(quoted("[]"), JSONB)


def pruned(entries: Any, *, distinct: bool) -> Any:
    """Leave out what a later entry has removed, and removals that a later one of the same value makes needless.

    Of a distinct list, which knows no removals, keep the first entry of each value.
    """
    each = func.jsonb_array_elements(entries).table_valued("value").render_derived()
    value = cast(each.c.value, JSONB)
    parts = select(
        value.label("entry"),
        cast(_at(value, 0, as_text=True), Numeric).label("position"),
        _at(value, 1).label("value"),
        cast(_at(value, 2, as_text=True), Integer).label("sign"),
    ).subquery()
    removed_at = func.max(parts.c.position).filter(parts.c.sign < literal_column("0")).over(partition_by=parts.c.value)
    first_at = func.min(parts.c.position).over(partition_by=parts.c.value)
    marked = select(parts.c.entry, parts.c.position, (first_at if distinct else removed_at).label("bound")).subquery()
    bound = marked.c.bound
    kept = marked.c.position == bound if distinct else marked.c.position >= func.coalesce(bound, literal_column("0"))
    return (
        select(func.coalesce(func.jsonb_agg(aggregate_order_by(marked.c.entry, marked.c.position)), EMPTY))
        .where(kept)
        .scalar_subquery()
    )


def visible(entries: Any, item: ValueType) -> Any:
    """The values of a list, from its pruned entries; decimals as text, since readers of JSON make binary fractions of numbers."""
    each = func.jsonb_array_elements(entries).table_valued("value").render_derived()
    value = cast(each.c.value, JSONB)
    shown = func.to_jsonb(_at(value, 1, as_text=True)) if item.kind == "decimal" else _at(value, 1)
    in_order = aggregate_order_by(shown, cast(_at(value, 0, as_text=True), Numeric))
    return (
        select(func.coalesce(func.jsonb_agg(in_order), EMPTY))
        .where(cast(_at(value, 2, as_text=True), Integer) > literal_column("0"))
        .scalar_subquery()
    )


def _at(array: Any, index: int, *, as_text: bool = False) -> Any:
    return array.op("->>" if as_text else "->")(literal_column(str(index), Integer))
