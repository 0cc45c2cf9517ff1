"""Upcasters, written as far as two shapes say what there is to do."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from sa_eventsource.events import current_class, current_type
from sa_eventsource.evolution.compatibility import differences
from sa_eventsource.exceptions import UnknownEventTypeError

if TYPE_CHECKING:
    from sa_eventsource.evolution.shapes import Shape

_HEAD = """\
@upcast({of}, from_version={version})
def {function}(payload: dict[str, Any]) -> dict[str, Any]:
"""


def class_name_of(event_type: str) -> str:
    """Get the name that the class of a type has in Python; the type itself where it has none."""
    try:
        return current_class(current_type(event_type), 1).__name__
    except UnknownEventTypeError:
        return event_type


def upcaster_code(event_type: str, version: int, before: Shape, now: Shape) -> str:
    """Write the upcaster from one shape of an event to another.

    Where exactly one field is gone and one is new, and what was written in the one is read by the other, it may have been renamed:
    that is written, with a question.

    Args:
        event_type: The stored name.
        version: The version that it takes.
        before: The shape of that version.
        now: The shape of the next one.
    """
    name = class_name_of(event_type)
    body: list[str] = []
    if before["kind"] == now["kind"] == "object":
        body = _of_object("payload", before, now)
    lines = body or ["...  # make a payload of the new shape"]
    head = _HEAD.format(of=name, version=version, function=f"{_snake(name)}_from_{version}")
    return head + "".join(f"    {line}\n" for line in [*lines, "return payload"])


def splitter_code(event_type: str, version: int) -> str:
    """Write the upcaster that drops an event."""
    function = f"drop_{_snake(re.sub(r'[^0-9A-Za-z]+', '_', event_type))}"
    return (
        f"@upcast({event_type!r}, from_version={version}, into=())\n"
        f"def {function}(payload: dict[str, Any]) -> list[DomainEvent]:\n    return []\n"
    )


def _of_object(place: str, before: Shape, now: Shape, depth: int = 0) -> list[str]:
    """Write what turns the object at *place* into one of the new shape."""
    old = {each["writes"]: each["shape"] for each in before["fields"].values()}
    new = {each["reads"]: each for each in now["fields"].values()}
    gone = [key for key in old if key not in new]
    missing = [key for key, each in new.items() if key not in old and each["required"]]
    lines: list[str] = []
    if len(gone) == len(missing) == 1 and not differences(old[gone[0]], new[missing[0]]["shape"]):
        lines.append(f"{place}[{_quoted(missing[0])}] = {place}.pop({_quoted(gone[0])})  # has it been renamed?")
        gone, missing = [], []
    lines += [f"{place}[{_quoted(key)}] = ...  # required now, and not stored before" for key in missing]
    lines += [f"del {place}[{_quoted(key)}]  # no field of the class any more" for key in gone]
    for key, shape in old.items():
        if key in new:
            lines += _of_value(f"{place}[{_quoted(key)}]", shape, new[key]["shape"], depth)
    return lines


def _of_value(place: str, before: Shape, now: Shape, depth: int) -> list[str]:
    """Write what turns the value at *place* into one of the new shape, down to the fields of models within it."""
    faults = differences(before, now)
    if not faults:
        return []
    if before["kind"] == now["kind"] == "object":
        return _of_object(place, before, now, depth)
    if before["kind"] == now["kind"] == "list" and before["items"]["kind"] == now["items"]["kind"] in ("object", "list"):
        item = f"item_{depth + 1}" if depth else "item"
        lines = _of_value(item, before["items"], now["items"], depth + 1)
        if lines:
            return [f"for {item} in {place}:", *(f"    {line}" for line in lines)]
    return [f"{place} = ...  # {faults[0].path and faults[0].path + ': '}{faults[0].reason}"]


def _quoted(key: str) -> str:
    """Write a key as Python does, between the quotation marks that are usual."""
    return json.dumps(key, ensure_ascii=False)


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
