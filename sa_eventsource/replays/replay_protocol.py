"""What a process that replays a stream by other code is given, and what it answers: JSON, the answer line by line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 - Pydantic reads them
from dataclasses import dataclass

from pydantic import TypeAdapter

from sa_eventsource.replays.replayed_steps import ReplayedStep  # noqa: TC001 - Pydantic reads it


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be replayed, and by which code.

    Attributes:
        base: ``MODULE:NAME`` of the declarative base.
        roots: Folders that modules are imported from, before all others.
        without: Folders that modules are not imported from.
        stand_ins: Files that are imported in place of modules, by the names of these.
        aggregate_type: The stream's type name.
        aggregate_id: Its id as stored.
        events: Its events from version 1 on: version, event type, event version, payload, event id.
        shown: The first version whose state is wanted, and the first behind those.
        seconds: How long it may take.
        megabytes: How much memory it may take.
    """

    base: str
    roots: Sequence[str]
    without: Sequence[str]
    stand_ins: Mapping[str, str]
    aggregate_type: str
    aggregate_id: str
    events: Sequence[tuple[int, str, int, str, str]]
    shown: tuple[int, int]
    seconds: float
    megabytes: int


@dataclass(frozen=True, slots=True)
class End:
    """How it ended.

    Attributes:
        error: Why it came no further; None where it has come to the end.
        traceback: Where that was raised; None where nothing was.
        files: The files of the other code that were imported.
    """

    error: str | None = None
    traceback: str | None = None
    files: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the answer: one of these. First the state fields, then the steps, at last the end.

    Attributes:
        fields: The state fields of the class. Where there are none, the code cannot be used at all, and the end says why.
        step: A step.
        end: The end. Where there is none, the process was ended, or crashed.
    """

    fields: Sequence[str] | None = None
    step: ReplayedStep | None = None
    end: End | None = None


REQUEST = TypeAdapter(Request)
LINE = TypeAdapter(Line)
