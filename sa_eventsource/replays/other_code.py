"""Other code, which streams may be replayed by: who may be asked for, and what is kept of the answers."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from sa_eventsource.application_errors import storable
from sa_eventsource.exceptions import OtherCodeError
from sa_eventsource.replays.checkouts import Checkouts
from sa_eventsource.replays.code_names import CodeName, read_code_name
from sa_eventsource.replays.kept_answers import KeptAnswers
from sa_eventsource.replays.limited_process import Limits, run_limited
from sa_eventsource.replays.replay_protocol import LINE, REQUEST, Request
from sa_eventsource.replays.replayed_steps import Replay, out_of_time, replay_here

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sa_eventsource.event_log import History
    from sa_eventsource.replays.limited_process import Ended

_COMMAND = (sys.executable, "-P", "-X", "faulthandler", "-m", "sa_eventsource.replays.other_process")
_MOST_OUTPUT = 64 * 1024 * 1024
_LEAST_MEGABYTES = 256
_MOST_BYTES_KEPT = 64 * 1024 * 1024
_SECONDS_KEPT = 300.0

_PASSED_ON = (
    *("PATH", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "TEMP", "TMP"),
    *("SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME"),
)
"""Environment variables that the other code gets. The others may have passwords in them."""


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the modules of other code come from. As :class:`Request`; and the folder to run in, and what it is, for people."""

    roots: Sequence[Path]
    without: Sequence[Path]
    stand_ins: Mapping[str, str]
    folder: Path
    origin: str


class OtherCode:
    """Code next to the deployed one, by which the browser may replay streams: Git revisions, folders, files.

    Example: ``OtherCode("app.models:Base", ["v1.4", "./next", "app.orders=./draft.py"])``

    Whoever looks chooses among the code that is named here. It runs in a process of its own: it gets the events of one stream,
    personal data as the reader may see it, and gives states. The process has a limit of time, and of memory where the system has
    one; none of the application's environment variables; and no connection. It is no cage, however: the process has the rights of
    the user that the browser runs as. Name code only that may run there.

    Attributes:
        names: The code that may be chosen, as it was named.
        any_revision: Whether any revision of the repository may be chosen.
    """

    def __init__(  # noqa: PLR0913 - by keyword
        self,
        base: str,
        names: Sequence[str] = (),
        *,
        any_revision: bool = False,
        repository: str | Path = ".",
        environment: Mapping[str, str] | None = None,
        seconds: float = 20.0,
        megabytes: int = 1024,
    ) -> None:
        """Name the code; nothing of it is run yet.

        Args:
            base: Module and name of the declarative base, such as ``"app.models:Base"``, in the other code too. The module imports
                all that declare aggregates.
            names: The code: Git revisions, such as ``"v1.4"`` or ``"HEAD~3"``; folders that modules are imported from, such as
                ``"./next"``; files that are imported in place of a module, such as ``"app.orders=./draft.py"``. Paths begin
                with a dot or a slash, revisions do not.
            any_revision: Whether readers may name other revisions of the repository.
            repository: A folder in the Git repository; by default the current directory.
            environment: Environment variables for the other code, such as a ``DATABASE_URL`` that a module wants when it is
                imported. Of the application's own, it gets none but those of the system, such as ``PATH``.
            seconds: How long it may take, its start and imports included.
            megabytes: How much memory it may address, on systems that limit that.

        Raises:
            TypeError: *names* is no list of texts.
            ValueError: *base* is not of the form ``MODULE:NAME``, no code is named, a name has no form of these, a folder or a
                file is not there, or a limit is too low.
        """
        module, _, path = base.partition(":")
        if not all(part.isidentifier() for part in (*module.split("."), *path.split("."))):
            raise ValueError(f"OtherCode({base!r}): write MODULE:NAME of the declarative base, such as app.models:Base")
        if isinstance(names, str):
            raise TypeError(f"OtherCode() takes a list of names, such as [{names!r}], not a text")
        if not seconds > 0:
            raise ValueError(f"OtherCode(seconds=...) takes a time in seconds, more than 0, not {seconds!r}")
        if not megabytes >= _LEAST_MEGABYTES:
            raise ValueError(f"OtherCode(megabytes=...) takes {_LEAST_MEGABYTES} or more, which Python needs, not {megabytes!r}")
        self.names = tuple(read_code_name(each).text for each in names)
        self.any_revision = any_revision
        if not self.names and not any_revision:
            raise ValueError("OtherCode() names no code: name some, or pass any_revision=True")
        self._base = base
        self._module = module
        self._environment = dict(environment or {})
        self._seconds = seconds
        self._megabytes = megabytes
        self._checkouts = Checkouts(Path(repository).resolve())
        self._turn = threading.RLock()
        self._kept = KeptAnswers(seconds=_SECONDS_KEPT, most_bytes=_MOST_BYTES_KEPT)

    def require_revisions(self) -> None:
        """Check that the repository has the revisions that were named, which is otherwise known when one is chosen.

        Raises:
            OtherCodeError: It has not, or there is none.
        """
        for revision in filter(None, (read_code_name(each).revision for each in self.names)):
            self._checkouts.commit(revision)

    def compare(self, name: str, history: History, shown: range) -> tuple[Replay, Replay]:
        """Replay a stream by the deployed code, and by other code. One replay runs at a time.

        Args:
            name: What the code is called.
            history: The stream, from its first event on, with its payloads as the reader may see them.
            shown: The versions whose states are wanted.

        Raises:
            OtherCodeError: The code may not be chosen, is not there, cannot be imported or has not the aggregate; or the replays of
                others take too long.
        """
        code = self._chosen(name)
        with self.turn(name):
            source = self._source(code)
            asked = REQUEST.dump_json(self._request(source, history, shown))
            key = blake2b(asked + b"\0" + source.origin.encode()).digest()
            known = self._kept.find(key)
            if known is not None:
                return known
            variables = {each: os.environ[each] for each in _PASSED_ON if each in os.environ}
            path = os.pathsep.join(str(Path(each).absolute()) for each in sys.path)
            ended = run_limited(
                _COMMAND,
                asked,
                limits=Limits(self._seconds, _MOST_OUTPUT),
                environment={**variables, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **self._environment},
                folder=source.folder,
            )
            there, files = _read_answer(code, ended, self._seconds, source.origin)
            replays = replay_here(history, shown, seconds=self._seconds), there
            if files is not None:
                self._kept.keep(key, replays, files)
            return replays

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """Wait until no other replay runs, so that a stream is read only when it can be replayed. None begins meanwhile.

        Args:
            name: What the code is called.

        Raises:
            OtherCodeError: The code may not be chosen, or the replays of others take too long.
        """
        code = self._chosen(name)
        if not self._turn.acquire(timeout=self._seconds):
            raise OtherCodeError(code.text, "another replay is running, and one runs at a time. Try again")
        try:
            yield
        finally:
            self._turn.release()

    def _chosen(self, name: str) -> CodeName:
        try:
            code = read_code_name(name)
        except ValueError as error:
            if name in self.names:
                raise OtherCodeError(name, str(error)) from None  # a folder that was there
            code = None
        if code is None or not (name in self.names or (self.any_revision and code.revision is not None)):
            raise OtherCodeError(name, f"it may not be chosen here. There are: {', '.join(self.names) or 'Git revisions'}")
        return code

    def _source(self, code: CodeName) -> _Source:
        """Find where the modules of other code come from.

        Raises:
            OtherCodeError: There is no such revision.
        """
        deployed = _import_root(self._module)
        without = [] if deployed is None or deployed.name in ("site-packages", "dist-packages") else [deployed]
        if code.revision is not None:
            commit = self._checkouts.commit(code.revision)
            tree, top = self._checkouts.tree(commit), self._checkouts.top_level(code.revision)
            inside = [tree / deployed.relative_to(top)] if deployed is not None and deployed.is_relative_to(top) else []
            return _Source(_folders(*inside, tree, tree / "src"), without, {}, tree, commit.summary)
        if code.module is not None:
            return _Source((), (), {code.module: str(code.path)}, Path.cwd(), str(code.path))
        return _Source(_folders(code.path, code.path / "src"), without, {}, code.path, str(code.path))

    def _request(self, source: _Source, history: History, shown: range) -> Request:
        return Request(
            base=self._base,
            roots=[str(each) for each in source.roots],
            without=[str(each) for each in source.without],
            stand_ins=source.stand_ins,
            aggregate_type=history.definition.aggregate_type,
            aggregate_id=history.aggregate_id,
            events=[
                (row.version, row.event_type, row.event_version, payload, str(row.event_id))
                for row, payload in zip(history.rows, history.payloads, strict=True)
            ],
            shown=(shown.start, shown.stop),
            seconds=self._seconds,
            megabytes=self._megabytes,
        )


def _read_answer(code: CodeName, ended: Ended, seconds: float, origin: str) -> tuple[Replay, Sequence[str] | None]:
    """Read what a process has said. Also give the files of the code, where it has ended by itself.

    Raises:
        OtherCodeError: The code cannot be used.
    """
    try:
        lines = [LINE.validate_json(each) for each in bytes(ended.output).split(b"\n")[:-1]]  # behind the last one: part of a line
    except ValidationError:
        raise OtherCodeError(code.text, "it does not answer as this version of the library does") from None
    steps = [line.step for line in lines if line.step is not None]
    fields = next((line.fields for line in lines if line.fields is not None), None)
    end = next((line.end for line in lines if line.end is not None), None)
    if end is not None:
        error, details = end.error, end.traceback
    else:
        error, details = _how(ended, seconds), storable(bytes(ended.complaints).decode("utf-8", "replace")).strip() or None
    if fields is None:
        raise OtherCodeError(code.text, error or "it says nothing", details=details)
    return Replay(fields, steps, error, details, origin), None if end is None else end.files


def _how(ended: Ended, seconds: float) -> str:
    """Say how a process ended that has not said so."""
    if ended.is_late or -ended.code in (getattr(signal, "SIGXCPU", None), getattr(signal, "SIGALRM", None)):
        return out_of_time(seconds)
    if ended.is_long:
        return f"It was ended when it had said {_MOST_OUTPUT // 1024 // 1024} MB."
    if ended.code < 0:
        return f"Its process was ended by {signal.Signals(-ended.code).name}."
    return f"Its process ended with status {ended.code}."


def _import_root(module: str) -> Path | None:
    """Find the folder that this process imports a module from; None where it does not."""
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).resolve()
    return file.parents[module.count(".") + (file.stem == "__init__")]


def _folders(*candidates: Path) -> list[Path]:
    return [each for each in dict.fromkeys(candidates) if each.is_dir()]
