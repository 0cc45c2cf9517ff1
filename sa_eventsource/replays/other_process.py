"""The process that replays a stream by other code: ``python -m sa_eventsource.replays.other_process``.

It gets a request on its standard input and answers on its standard output, line by line, so that what it has come to is known
wherever it ends. The library is that of the process that asks; the other code finds its own modules first.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from importlib import import_module, invalidate_caches
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import MetaData

from sa_eventsource.aggregates import definition_of
from sa_eventsource.application_errors import traceback_of
from sa_eventsource.event_log import History
from sa_eventsource.exceptions import EventSourceError
from sa_eventsource.mapping import find_tables
from sa_eventsource.replays.replay_protocol import LINE, REQUEST, End, Line
from sa_eventsource.replays.replayed_steps import replayed_steps, said_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import BinaryIO

    from sa_eventsource.aggregates import AggregateDefinition
    from sa_eventsource.replays.replay_protocol import Request

_MEGABYTE = 1024 * 1024
_GRACE = 5
"""So many seconds after its time, a process ends by itself, if nobody has ended it."""


class _UnusableError(Exception):
    """The code has not what is asked for."""


@dataclass(frozen=True, slots=True)
class _Row:
    """An event, as a history has its rows."""

    version: int
    event_type: str
    event_version: int
    event_id: UUID


class _StandIns(MetaPathFinder):
    """Finds files in place of modules."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = files

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:  # noqa: ARG002 - its signature
        """Find a module's file."""
        file = self._files.get(fullname)
        if file is None:
            return None
        present = PathFinder.find_spec(fullname, path)  # whose submodules stay, where it is a package
        inside = None if present is None else present.submodule_search_locations
        return spec_from_file_location(fullname, file, submodule_search_locations=None if inside is None else list(inside))


def main() -> None:
    """Answer one request."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the other code prints is no answer
    sys.stdout = sys.stderr
    request = REQUEST.validate_json(sys.stdin.buffer.read())
    _limit(request)
    try:
        for step in _answer(request, answers):
            _say(answers, step)
        end = End(files=_files(request))
    except _UnusableError as error:
        end = End(str(error), None if error.__cause__ is None else traceback_of(error.__cause__), _files(request))
    except BaseException as error:  # noqa: BLE001 - whatever the other code raises; SystemExit too
        end = End(said_of(error), traceback_of(error), _files(request))
    _say(answers, Line(end=end))
    os._exit(0)  # threads and exit handlers of the other code are not waited for


def _answer(request: Request, answers: BinaryIO) -> Any:
    definition = _definition(request)
    _check_id(definition, request.aggregate_id)
    rows = [_Row(version, name, number, UUID(event_id)) for version, name, number, _, event_id in request.events]
    payloads = [payload for _, _, _, payload, _ in request.events]
    history = History(definition, request.aggregate_id, rows, payloads, whole=True)  # type: ignore[arg-type]
    _say(answers, Line(fields=history.fields))
    for step in replayed_steps(history, range(*request.shown)):
        yield Line(step=step)


def _say(answers: BinaryIO, line: Line) -> None:
    answers.write(LINE.dump_json(line, exclude_defaults=True) + b"\n")
    answers.flush()


def _limit(request: Request) -> None:
    """Bound what the process may take, where the system does that."""
    if os.name != "posix":
        return
    import resource  # noqa: PLC0415 - which other systems do not have

    seconds, size = int(request.seconds) + _GRACE, request.megabytes * _MEGABYTE
    for kind, bound in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, size), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        try:
            resource.setrlimit(kind, (bound if hard == resource.RLIM_INFINITY else min(bound, hard), hard))
        except (OSError, ValueError):
            continue  # macOS has it, and does not take it
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _definition(request: Request) -> AggregateDefinition:
    """Import the other code, and find the aggregate's class in it.

    Raises:
        _UnusableError: It is not there, or cannot be imported.
    """
    module_name, _, path = request.base.partition(":")
    without = {Path(each).resolve() for each in request.without}
    sys.path[:] = [*request.roots, *(each for each in sys.path if each and Path(each).resolve() not in without)]
    sys.meta_path.insert(0, _StandIns(request.stand_ins))
    invalidate_caches()
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _UnusableError(f"the import of {module_name} fails: {said_of(error)}") from error
        raise _UnusableError(f"it has no module {module_name}") from None
    except BaseException as error:
        raise _UnusableError(f"the import of {module_name} fails: {said_of(error)}") from error
    if request.roots and not _lies_in(module, request.roots):
        raise _UnusableError(f"it has no module {module_name}; the installed one was found instead")
    found: Any = module
    for name in path.split("."):
        found = getattr(found, name, None)
    metadata = getattr(found, "metadata", None)
    tables = find_tables(metadata) if isinstance(metadata, MetaData) else None
    if tables is None:
        raise _UnusableError(f"{request.base} is not a declarative base with aggregates there")
    aggregate_class = tables.aggregate_classes.get(request.aggregate_type)
    if aggregate_class is None:
        known = ", ".join(sorted(tables.aggregate_classes)) or "none"
        raise _UnusableError(f"it has no aggregate {request.aggregate_type}; its aggregates: {known}")
    return definition_of(aggregate_class)


def _check_id(definition: AggregateDefinition, aggregate_id: str) -> None:
    try:
        is_stored_so = definition.text_id(definition.typed_id(aggregate_id)) == aggregate_id
    except (EventSourceError, ValueError):
        is_stored_so = False
    if not is_stored_so:
        raise _UnusableError(f"the ids of its {definition.aggregate_type} are of type {definition.id_type.__name__}")


def _lies_in(module: ModuleType, roots: Sequence[str]) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and any(Path(file).resolve().is_relative_to(Path(each).resolve()) for each in roots)


def _files(request: Request) -> list[str]:
    """List the files of the other code that were imported."""
    imported = [module for module in list(sys.modules.values()) if _lies_in(module, request.roots)]
    return [*request.stand_ins.values(), *(str(each.__file__) for each in imported)]


if __name__ == "__main__":
    main()
