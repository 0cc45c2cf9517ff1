"""Whether what one shape writes is read by another, exactly: proven, refuted, or neither.

Only what reading is known to give back is called compatible. Pydantic reads more than that, such as the text ``"3"`` as a whole
number; here that is none, as a value is to mean what it meant. What is not known is never called compatible: it is told as such.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from sa_eventsource.evolution.simple_values import (
    LENGTHS,
    Difference,
    bounded,
    json_type,
    json_type_of,
    json_types,
    simple,
    value_of_kind,
    words_for,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sa_eventsource.evolution.shapes import Shape

    Comparison: TypeAlias = Callable[[Shape, Shape, str], Iterator[Difference]]

_ROOT = ""


def differences(written: Shape, read: Shape) -> list[Difference]:
    """List why what one shape writes is not read exactly by another; an empty list says that all of it is."""
    return list(_compared(written, read, _ROOT))


def personal_paths(shape: Shape, path: str = _ROOT) -> Iterator[str]:
    """List the fields that are personal, in a shape and in those within it."""
    for name, each in shape.get("fields", {}).items():
        inner = f"{path}.{name}" if path else name
        if "personal" in each:
            yield inner
        yield from personal_paths(each["shape"], inner)
    for step, part in _parts(shape):
        yield from personal_paths(part, path + step)


def _parts(shape: Shape) -> Iterator[tuple[str, Shape]]:
    """List what is in a shape other than fields, with the way to it."""
    match shape["kind"]:
        case "list" | "set":
            yield "[]", shape["items"]
        case "tuple":
            yield from ((f"[{number}]", each) for number, each in enumerate(shape["items"]))
        case "map":
            yield "{}", shape["values"]
        case "union":
            yield from (("", each) for each in shape["choices"])
        case "tagged":
            yield from ((f"<{name}>", each) for name, each in shape["choices"].items())


def _compared(written: Shape, read: Shape, path: str) -> Iterator[Difference]:
    if written == read and not _is_opaque(written):
        return  # what a class writes, it reads: every event is proven, or seen, to come back when it is applied
    kind, wanted = written["kind"], read["kind"]
    compare = next((each for is_meant, each in _SPECIAL if is_meant(kind, wanted)), simple)
    yield from compare(written, read, path)


def _anything(_written: Shape, _read: Shape, _path: str) -> Iterator[Difference]:
    """Find nothing: JSON is taken as it is."""
    return iter(())


def _out_of_union(written: Shape, read: Shape, path: str) -> Iterator[Difference]:
    for each in written["choices"]:
        yield from _compared(each, read, path)


def _out_of_choice(written: Shape, read: Shape, path: str) -> Iterator[Difference]:
    for value in written["values"]:
        yield from _value(value, read, path)


def _choice_into_choice(written: Shape, read: Shape, path: str) -> Iterator[Difference]:
    yield from _choices(written["values"], read["values"], path)


def _arrays(written: Shape, read: Shape, path: str) -> Iterator[Difference]:
    if written["kind"] == "list" and read["kind"] == "set":
        yield Difference(path, "incompatible", "a list is written, and a set drops what is there twice")
    yield from bounded(written, read, path, LENGTHS)
    yield from _compared(written["items"], read["items"], f"{path}[]")


def _tuples(written: Shape, read: Shape, path: str) -> Iterator[Difference]:
    if len(written["items"]) != len(read["items"]):
        yield Difference(path, "incompatible", f"{len(written['items'])} items are written, and {len(read['items'])} are read")
        return
    for number, (one, other) in enumerate(zip(written["items"], read["items"], strict=True)):
        yield from _compared(one, other, f"{path}[{number}]")


def _tuple_into_list(written: Shape, read: Shape, path: str) -> Iterator[Difference]:
    number = len(written["items"])
    yield from bounded({"min_length": number, "max_length": number}, read, path, LENGTHS)
    for each in written["items"]:
        yield from _compared(each, read["items"], f"{path}[]")


def _maps(written: Shape, read: Shape, path: str) -> Iterator[Difference]:
    yield from bounded(written, read, path, LENGTHS)
    yield from _keys(written["keys"], read["keys"], path)
    yield from _compared(written["values"], read["values"], f"{path}{{}}")


def _is_opaque(shape: Any) -> bool:
    """Check whether there is something in a shape of which nobody can say whether it is still the same."""
    if isinstance(shape, dict):
        if shape.get("kind") == "unknown" and shape.get("digest") is None:
            return True
        return any(map(_is_opaque, shape.values()))
    return isinstance(shape, list) and any(map(_is_opaque, shape))


def _unknown(written: Shape, read: Shape, path: str) -> Iterator[Difference]:
    same = written.get("digest") is not None and written.get("digest") == read.get("digest")
    if not same:
        which = read if read["kind"] == "unknown" else written
        code = "" if which.get("digest") else ", and its code cannot be compared"
        yield Difference(path, "unproven", f"it cannot be told what {which['because']} makes of it{code}")


def _into_union(written: Shape, read: Shape, path: str) -> Iterator[Difference]:
    """One of a union reads it, and no other one might take it for its own: those of the same JSON type might."""
    found = [(each, list(_compared(written, each, path))) for each in read["choices"]]
    fitting = [each for each, faults in found if not faults]
    if not fitting and written["kind"] == "tagged":
        for name, each in written["choices"].items():
            yield from _compared(each, read, f"{path}<{name}>")
        return
    if not fitting:
        near = [faults for each, faults in found if json_type(each) == json_type(written)]
        if len(near) == 1:
            yield from near[0]
        elif any(fault.verdict == "unproven" for _, faults in found for fault in faults):
            yield Difference(path, "unproven", f"it cannot be told which of {words_for(read)} reads {words_for(written)}")
        else:
            yield Difference(path, "incompatible", f"{words_for(written)} is written, and {words_for(read)} is read")
        return
    if _is_shared(json_types(written), fitting[0], read):
        yield Difference(path, "unproven", f"{words_for(written)} is written, and more than one of {words_for(read)} might read it")


def _is_shared(written: set[str], fitting: Shape, read: Shape) -> bool:
    """Check whether another one of a union reads the same JSON types."""
    return any(each is not fitting and not json_types(each).isdisjoint(written) for each in read["choices"])


def _objects(written: Shape, read: Shape, path: str) -> Iterator[Difference]:
    by_key = {each["reads"]: (name, each) for name, each in read["fields"].items()}
    for name, each in written["fields"].items():
        inner = f"{path}.{name}" if path else name
        if each["writes"] not in by_key:
            how = "is refused as unknown" if read["others"] == "forbid" else "is dropped silently"
            yield Difference(inner, "incompatible", f"{each['writes']!r} is written, and {how}", "unread")
            continue
        _, reader = by_key.pop(each["writes"])
        yield from _compared(each["shape"], reader["shape"], inner)
        if "personal" in each:
            # What is read of an event whose subject is forgotten is what was stored as placeholder then.
            for fault in _value(each["personal"]["placeholder"], reader["shape"], inner):
                yield Difference(
                    inner, fault.verdict, f"of a forgotten subject, the placeholder that was stored is read: {fault.reason}"
                )
    for key, (name, each) in by_key.items():
        if each["required"]:
            inner = f"{path}.{name}" if path else name
            yield Difference(inner, "incompatible", f"{key!r} is required, and is not written", "missing")


def _object_into_tagged(written: Shape, read: Shape, path: str) -> Iterator[Difference]:
    """A model becomes one of several: what it writes for the tag says which."""
    tags = next((each["shape"] for each in written["fields"].values() if each["writes"] == read["tag"]), None)
    if tags is None or tags["kind"] != "one of":
        said = "nothing tells which" if tags is None else f"{words_for(tags)} tells which"
        yield Difference(path, "incompatible", f"{words_for(written)} is written, {said}, and {words_for(read)} is read")
        return
    for tag in tags["values"]:
        if tag not in read["choices"]:
            yield Difference(path, "incompatible", f"{read['tag']}={tag!r} is written, and there is no such type")
        else:
            yield from _compared(written, read["choices"][tag], f"{path}<{tag}>")


def _tagged(written: Shape, read: Shape, path: str) -> Iterator[Difference]:
    if written["tag"] != read["tag"]:
        yield Difference(path, "incompatible", f"{written['tag']!r} tells the types apart, and {read['tag']!r} is looked at")
        return
    for name, each in written["choices"].items():
        if name not in read["choices"]:
            yield Difference(path, "incompatible", f"{written['tag']}={name!r} is written, and there is no such type")
        else:
            yield from _compared(each, read["choices"][name], f"{path}<{name}>")


def _choices(written: list[Any], read: list[Any], path: str) -> Iterator[Difference]:
    lost = [each for each in written if not any(type(each) is type(other) and each == other for other in read)]
    if lost:
        yield Difference(
            path, "incompatible", f"{', '.join(map(repr, lost))} may be written, and is none of the values that are read"
        )


def _value(value: Any, read: Shape, path: str) -> Iterator[Difference]:
    """Compare one value, which is plain JSON, with what is read."""
    match read["kind"]:
        case "unknown":
            yield Difference(path, "unproven", f"it cannot be told what {read['because']} makes of {value!r}")
        case "any":
            return
        case "union":
            fitting = [each for each in read["choices"] if not list(_value(value, each, path))]
            if not fitting or _is_shared({json_type_of(value)}, fitting[0], read):
                yield Difference(path, "unproven", f"it cannot be told which of {words_for(read)} reads {value!r}")
        case "one of":
            yield from _choices([value], read["values"], path)
        case kind:
            yield from value_of_kind(value, kind, read, path)


def _keys(written: Shape, read: Shape, path: str) -> Iterator[Difference]:
    """Keys are texts in JSON; those of another kind must remain of that kind."""
    if written == read or read["kind"] == "any":
        return
    if read["kind"] == "text" and written["kind"] in ("text", "uuid", "date", "moment", "any") and set(read) == {"kind"}:
        return
    yield Difference(
        path, "unproven", f"it cannot be told whether keys that are {words_for(written)} are read as {words_for(read)}"
    )


_SPECIAL: tuple[tuple[Callable[[str, str], bool], Callable[[Shape, Shape, str], Iterator[Difference]]], ...] = (
    (lambda one, other: "unknown" in (one, other), _unknown),
    (lambda _, other: other == "any", _anything),
    (lambda one, _: one == "union", _out_of_union),
    (lambda one, other: one == "one of" != other, _out_of_choice),
    (lambda _, other: other == "union", _into_union),
    (lambda one, other: one == other == "one of", _choice_into_choice),
    (lambda one, other: one == other == "object", _objects),
    (lambda one, other: one == other == "tagged", _tagged),
    (lambda one, other: (one, other) == ("object", "tagged"), _object_into_tagged),
    (lambda one, other: {one, other} <= {"list", "set"}, _arrays),
    (lambda one, other: one == other == "tuple", _tuples),
    (lambda one, other: (one, other) == ("tuple", "list"), _tuple_into_list),
    (lambda one, other: one == other == "map", _maps),
)
"""How shapes of two kinds are compared; the first that is meant. All others are simple values."""
