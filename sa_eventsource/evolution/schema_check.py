"""The check: can the code read what earlier code has written, and earlier code what this one writes?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sa_eventsource.events import current_class, current_type, is_readable, is_retired, missing_step, sealed_names
from sa_eventsource.evolution.compatibility import differences, personal_paths
from sa_eventsource.evolution.upcaster_code import class_name_of, splitter_code, upcaster_code
from sa_eventsource.exceptions import UnknownEventTypeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sa_eventsource.evolution.schema_file import Document, Entry
    from sa_eventsource.evolution.shapes import Shape
    from sa_eventsource.evolution.simple_values import Difference, Verdict

Direction: TypeAlias = Literal["backward", "forward"]


class Mode(StrEnum):
    """What must be readable by whom; the names are those of schema registries.

    With ``_TRANSITIVE``, all shapes that the file has of a version count, and not only the latest one.
    """

    BACKWARD = "BACKWARD"
    """The code reads what was stored before."""
    FORWARD = "FORWARD"
    """The code that is still deployed reads what this one stores."""
    FULL = "FULL"
    """Both."""
    BACKWARD_TRANSITIVE = "BACKWARD_TRANSITIVE"
    FORWARD_TRANSITIVE = "FORWARD_TRANSITIVE"
    FULL_TRANSITIVE = "FULL_TRANSITIVE"

    @property
    def directions(self) -> tuple[Direction, ...]:
        """What is compared."""
        both: tuple[Direction, ...] = ("backward", "forward")
        return both if self.startswith("FULL") else ("backward",) if self.startswith("BACKWARD") else ("forward",)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that does not fit.

    Attributes:
        subject: The type of the event, or the command.
        version: The version whose payloads are meant; None for a command.
        path: The field; empty for the whole.
        direction: Who cannot read: ``"backward"``, this code what was stored; ``"forward"``, earlier code what this one stores.
        verdict: ``"incompatible"``, or ``"unproven"`` where it cannot be told.
        reason: What is wrong.
        remedy: What to do.
        code: Code to paste, such as an upcaster; None where there is none.
    """

    subject: str
    version: int | None
    path: str
    direction: Direction
    verdict: Verdict
    reason: str
    remedy: str
    code: str | None = None


def check(before: Document, now: Document, mode: Mode = Mode.BACKWARD_TRANSITIVE) -> list[Problem]:
    """Compare what the code declares with what a file says was stored.

    Args:
        before: The file.
        now: What the code declares.
        mode: What must be readable by whom.
    """
    found: list[Problem] = []
    for name, versions in sorted(before["events"].items()):
        for version in sorted(map(int, versions)):
            found += _event(name, version, versions, now, mode)
    for name, entry in sorted(before["commands"].items()):
        found += _command(name, entry, now, mode)
    return found


def changed_models(before: Document, now: Document) -> list[str]:
    """List the read models whose declaration has changed under the same name: their rows must be rebuilt."""
    return [
        name
        for name, entry in sorted(now["read_models"].items())
        if name in before["read_models"] and before["read_models"][name]["declaration"] != entry["declaration"]
    ]


@dataclass(frozen=True, slots=True)
class ChangedDefault:
    """A field whose default has changed within a version: a payload that was stored without it is read otherwise than before.

    Attributes:
        subject: The type of the event, or the command.
        version: The version of the event; None for a command.
        field: The field as it is stored; of a model within the event, ``Model.field``.
        before: The default that the file has.
        now: The default that the code has.
    """

    subject: str
    version: int | None
    field: str
    before: Any
    now: Any


def changed_defaults(before: Document, now: Document) -> list[ChangedDefault]:
    """List the fields of events and commands whose default has changed since the file was written.

    Nobody knows which payloads lack a field: those that were stored before it was declared, or by other programs, as the library
    stores all fields. Defaults that a ``default_factory`` makes are not compared.
    """
    entries = [
        *((name, int(version), entry) for name, versions in now["events"].items() for version, entry in versions.items()),
        *((name, None, entry) for name, entry in now["commands"].items()),
    ]
    found: list[ChangedDefault] = []
    for name, version, entry in entries:
        earlier = before["commands"].get(name) if version is None else before["events"].get(name, {}).get(str(version))
        was, is_now = _defaults(earlier), _defaults(entry)
        changed = [each for each in is_now if each in was and _text(was[each]) != _text(is_now[each])]
        found += [ChangedDefault(name, version, each, was[each], is_now[each]) for each in changed]
    return found


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)  # the file has members in another order; False is not 0


def _defaults(entry: Entry | None) -> dict[str, Any]:
    """Read from a JSON Schema what each field has that is not given, in the model and in those within it."""
    schema = (entry or {}).get("json_schema") or {}
    models = [("", schema), *((f"{name}.", each) for name, each in schema.get("$defs", {}).items())]
    return {
        f"{model}{name}": field["default"]
        for model, each in models
        for name, field in each.get("properties", {}).items()
        if "default" in field
    }


def _event(name: str, version: int, versions: dict[str, Entry], now: Document, mode: Mode) -> Iterator[Problem]:
    entry = versions[str(version)]
    if is_retired(name, version):
        yield from _steps(name, version, entry, now)
        return
    try:
        target = current_class(name, version)
    except UnknownEventTypeError:
        if not is_readable(name):
            yield Problem(
                name,
                version,
                "",
                "backward",
                "incompatible",
                "no class declares the type any more",
                "Import its module; or list the name in the __former_types__ of its class, if it was renamed; or drop the event:",
                splitter_code(name, version),
            )
        return
    if "backward" in mode.directions and name not in sealed_names():
        yield from _sealed(name, version, entry)
    present = target.__event_version__
    if version > present:
        reason = f"the file has version {version}, and the class is at version {present}"
        yield Problem(name, version, "", "backward", "incompatible", reason, "Set __event_version__ as it was, or higher.")
    elif version < present:
        yield from _steps(name, version, entry, now)
        if "forward" in mode.directions and str(present) not in versions and version == max(map(int, versions)):
            reason = f"code that knows version {version} refuses events of version {present}"
            yield Problem(
                name,
                version,
                "",
                "forward",
                "incompatible",
                reason,
                "Deploy all that read before those that write the new version.",
            )
    else:
        yield from _same_version(name, version, entry, now, mode)


def _sealed(name: str, version: int, entry: Entry) -> Iterator[Problem]:
    """Find what was personal: its stored values are opened where an event has a personal field in any version, and nowhere else."""
    shapes = [each["shape"] for each in entry["shapes"]]
    for path in dict.fromkeys(path for shape in shapes for path in personal_paths(shape)):
        yield Problem(
            name,
            version,
            path,
            "backward",
            "incompatible",
            "it was personal, and is stored sealed; no version of the event has a personal field any more, and so nothing opens it",
            "Mark it as Personal(...) again; or raise __event_version__, and keep the class of the version before, with its mark.",
        )


def _steps(name: str, version: int, entry: Entry, now: Document) -> Iterator[Problem]:
    """See whether there is a way from an older version to the present one."""
    missing = missing_step(name, version)
    if missing is None:
        return
    shape = _present_shape(name, now)
    code = splitter_code(name, missing) if shape is None else upcaster_code(name, missing, _latest(entry), shape)
    yield Problem(
        name,
        version,
        "",
        "backward",
        "incompatible",
        f"nothing turns version {missing} into version {missing + 1}",
        "Write an upcaster:",
        code,
    )


def _same_version(name: str, version: int, entry: Entry, now: Document, mode: Mode) -> Iterator[Problem]:
    present = _present_shape(name, now)
    if present is None:
        return
    for direction, fault, shape in _faults(entry, present, mode):
        remedy = (
            f"Set __event_version__ = {version + 1} in {class_name_of(name)}, and write an upcaster:"
            if direction == "backward"
            else "Deploy all that read before those that write."
        )
        code = upcaster_code(name, version, shape, present) if direction == "backward" else None
        yield Problem(name, version, fault.path, direction, fault.verdict, fault.reason, remedy, code)


def _command(name: str, entry: Entry, now: Document, mode: Mode) -> Iterator[Problem]:
    present = now["commands"].get(name)
    if present is None:
        reason = "no function handles the command any more"
        yield Problem(
            name, None, "", "backward", "incompatible", reason, "Scheduled ones would wait: keep the handler till none is left."
        )
        return
    for direction, fault, _ in _faults(entry, _latest(present), mode):
        remedy = "Scheduled ones have the old shape: give the field a default, or the new shape a __command_type__ of its own."
        yield Problem(name, None, fault.path, direction, fault.verdict, fault.reason, remedy)


def _faults(entry: Entry, present: Shape, mode: Mode) -> Iterator[tuple[Direction, Difference, Shape]]:
    shapes = [each["shape"] for each in entry["shapes"]]
    seen: set[Any] = set()
    for direction in mode.directions:
        for shape in reversed(shapes if mode.endswith("_TRANSITIVE") else shapes[-1:]):
            pair = (shape, present) if direction == "backward" else (present, shape)
            for each in differences(*pair):
                if (direction, each) not in seen:
                    seen.add((direction, each))
                    yield direction, each, shape


def _present_shape(name: str, now: Document) -> Shape | None:
    """The shape that the class of a stored name has now."""
    versions = now["events"].get(current_type(name))
    if not versions:
        return None
    return _latest(versions[max(versions, key=int)])


def _latest(entry: Entry) -> Shape:
    shape: Shape = entry["shapes"][-1]["shape"]
    return shape
