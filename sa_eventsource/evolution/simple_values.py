"""Values that hold no others: which kind is read as which, within which rules, and what JSON each is written as."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sa_eventsource.evolution.shapes import Shape

Verdict: TypeAlias = Literal["incompatible", "unproven"]

_JSON_TYPES: dict[str, str] = {
    "null": "null",
    "boolean": "boolean",
    "integer": "number",
    "float": "number",
    "text": "string",
    "uuid": "string",
    "date": "string",
    "time": "string",
    "moment": "string",
    "duration": "string",
    "bytes": "string",
    "decimal": "string",
    "list": "array",
    "set": "array",
    "tuple": "array",
    "map": "object",
    "object": "object",
    "tagged": "object",
}
"""What JSON a kind is written as."""

LENGTHS = ("min_length", "max_length")

_EXACT_INTEGERS = 2**53
"""Whole numbers up to this have a float of their own."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is written and not read as it was.

    Attributes:
        path: Where: names of fields, with ``[]`` for the items of a list and ``{}`` for the values of a dict.
        verdict: ``"incompatible"`` where there are such payloads, ``"unproven"`` where it is not known.
        reason: What is written there, and why it is not read.
        kind: ``"missing"`` for a field that is read and not written, ``"unread"`` for one that is written and not read, else
            ``"changed"``.
    """

    path: str
    verdict: Verdict
    reason: str
    kind: Literal["missing", "unread", "changed"] = "changed"


def value_of_kind(value: Any, kind: str, read: Shape, path: str) -> Iterator[Difference]:
    """Compare one value, which is plain JSON, with a simple kind."""
    if value is None or isinstance(value, bool):
        if kind != ("null" if value is None else "boolean"):
            shown = "null" if value is None else repr(value)
            yield Difference(path, "incompatible", f"{shown} may be written, and {words_for(read)} is read")
    elif isinstance(value, int):
        yield from simple({"kind": "integer", "ge": value, "le": value}, read, path)
    elif isinstance(value, str) and kind == "text" and "pattern" not in read:
        yield from bounded({"min_length": len(value), "max_length": len(value)}, read, path, LENGTHS)
    elif _JSON_TYPES.get(kind) == "string" or not isinstance(value, str):
        yield Difference(path, "unproven", f"it cannot be told whether {value!r} is read as {words_for(read)}")
    else:
        yield Difference(path, "incompatible", f"{value!r} may be written, and {words_for(read)} is read")


_WIDER = {
    ("integer", "decimal"),
    ("float", "decimal"),
    *((each, "text") for each in ("uuid", "date", "time", "moment", "duration")),
}
"""What is read as another kind, and means the same."""


def simple(written: Shape, read: Shape, path: str) -> Iterator[Difference]:
    """Compare two simple kinds, with their rules."""
    kind, wanted = written["kind"], read["kind"]
    rules = set(read) - {"kind", "encoding"}
    if (kind, wanted) == ("integer", "float"):
        least, most = _bound(written, "lower"), _bound(written, "upper")
        if least is None or most is None or max(abs(least), abs(most)) > _EXACT_INTEGERS:
            yield Difference(path, "incompatible", "a whole number is written, and those above 2**53 have no float of their own")
            return
    elif kind != wanted and (kind, wanted) not in _WIDER:
        yield Difference(path, "incompatible", f"{words_for(written)} is written, and {words_for(read)} is read")
        return
    if kind == "bytes" and written["encoding"] != read["encoding"]:
        yield Difference(path, "incompatible", f"bytes are written in {written['encoding']}, and read in {read['encoding']}")
    if kind == wanted or (kind, wanted) in (("integer", "decimal"), ("integer", "float")):
        yield from bounded(written, read, path, tuple(rules))
    elif rules:
        yield Difference(path, "unproven", f"it cannot be told whether {words_for(written)} always fits {words_for(read)}")


def bounded(written: Shape, read: Shape, path: str, rules: tuple[str, ...]) -> Iterator[Difference]:
    """Compare what a reader asks for besides the kind with what the writer keeps to."""
    for rule in sorted(rules):
        if rule not in read or written.get(rule) == read[rule]:
            continue
        if rule in ("min_length", "max_length"):
            own = written.get(rule)
            if own is None and rule == "min_length" and read[rule] == 0:
                continue
            if own is not None and (own >= read[rule] if rule == "min_length" else own <= read[rule]):
                continue
        elif _keeps_rule(written, read, rule):
            continue
        is_known = rule in ("min_length", "max_length") or (rule in ("ge", "gt", "le", "lt") and _number(read[rule]) is not None)
        yield Difference(
            path,
            "incompatible" if is_known else "unproven",
            f"{rule} is {read[rule]!r} for those that are read, and {written.get(rule, 'not there')!r} for those that are written",
        )


def _keeps_rule(written: Shape, read: Shape, rule: str) -> bool:
    """Check whether what a writer keeps to is enough for a rule of the reader's."""
    own = written.get(rule)
    match rule:
        case "ge" | "gt" | "le" | "lt":
            return _keeps_bound(written, rule, read[rule])
        case "multiple_of":
            return type(own) is type(read[rule]) is int and own % read[rule] == 0
        case "max_digits":
            return own is not None and own <= read[rule]
        case "decimal_places":
            # With both rules, there are so many digits before the point at the most as are left of all.
            most = written.get("max_digits")
            has_room = "max_digits" not in read or (most is not None and most - (own or 0) <= read["max_digits"] - read[rule])
            return own is not None and own <= read[rule] and has_room
    return False


def _keeps_bound(written: Shape, rule: str, bound: Any) -> bool:
    limit = _number(bound)
    if limit is None:
        return False
    if rule in ("ge", "gt"):
        least = _bound(written, "lower")
        is_strict = "gt" in written and least == _number(written["gt"])
        return least is not None and (least > limit or (least == limit and (rule == "ge" or is_strict)))
    most = _bound(written, "upper")
    is_strict = "lt" in written and most == _number(written["lt"])
    return most is not None and (most < limit or (most == limit and (rule == "le" or is_strict)))


def _bound(shape: Shape, side: Literal["lower", "upper"]) -> Decimal | None:
    names = ("ge", "gt") if side == "lower" else ("le", "lt")
    found = [limit for name in names if name in shape and (limit := _number(shape[name])) is not None]
    if not found:
        return None
    return max(found) if side == "lower" else min(found)


def _number(value: Any) -> Decimal | None:
    """Read a bound of numbers; None for one of times, of which texts are kept."""
    try:
        return Decimal(str(value))
    except ArithmeticError:
        return None


def words_for(shape: Shape) -> str:
    """Name a shape, for a reader."""
    match shape["kind"]:
        case "union":
            return " or ".join(map(words_for, shape["choices"]))
        case "one of":
            return f"one of {', '.join(map(repr, shape['values']))}"
        case "tagged":
            return f"a type named by {shape['tag']!r}"
    rules = [
        f"{name}={value!r}"
        for name, value in sorted(shape.items())
        if name in ("max_length", "min_length", "pattern", "ge", "gt", "le", "lt")
    ]
    return f"{shape['kind']}({', '.join(rules)})" if rules else str(shape["kind"])


def json_types(shape: Shape) -> set[str]:
    """Say which types of JSON a shape may be."""
    match shape["kind"]:
        case "one of":
            return set(map(json_type_of, shape["values"]))
        case "union":
            return {name for each in shape["choices"] for name in json_types(each)}
        case "decimal":
            return {"string", "number"}  # it reads both
        case kind if kind in _JSON_TYPES:
            return {_JSON_TYPES[kind]}
    return {"null", "boolean", "number", "string", "array", "object"}


def json_type(shape: Shape) -> str:
    """Say which type of JSON a shape is written as; nothing where there are several."""
    return _JSON_TYPES.get(shape["kind"], "")


def json_type_of(value: Any) -> str:
    """Say of which type of JSON a value is."""
    if value is None:
        return "null"
    types = {bool: "boolean", int: "number", float: "number", str: "string", list: "array"}
    return types.get(type(value), "object")
