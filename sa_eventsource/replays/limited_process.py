"""A process whose time and whose output are limited. Its memory is limited by itself, before it runs what may need much."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_CHUNK = 65_536
_LAST_WORDS = 8_000
"""How many bytes of what a process complains of are kept."""

_SECONDS_TO_CLOSE = 5.0
"""How long the pipes of a process that has ended are read on. They are open for longer where a process that it started has them."""


@dataclass(slots=True)
class Limits:
    """What a process may take.

    Attributes:
        seconds: Time, from its start.
        output: Bytes on its standard output.
    """

    seconds: float
    output: int


@dataclass(slots=True)
class Ended:
    """A process that has ended.

    Attributes:
        output: What it wrote to its standard output, as far as the limit goes.
        complaints: The end of what it wrote to its standard error.
        code: Its return code; below 0, the number of a signal.
        is_late: Whether it was ended because it took too long.
        is_long: Whether it was ended because it wrote too much.
    """

    output: bytearray = field(default_factory=bytearray)
    complaints: bytearray = field(default_factory=bytearray)
    code: int = 0
    is_late: bool = False
    is_long: bool = False


def run_limited(command: Sequence[str], given: bytes, *, limits: Limits, environment: Mapping[str, str], folder: Path) -> Ended:
    """Run a command until it ends, or a limit is reached. Processes that it has started end with it, where the system groups them.

    Args:
        command: The command and its arguments.
        given: What it gets on its standard input.
        limits: What it may take.
        environment: Its environment variables, all of them.
        folder: The directory that it runs in.
    """
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen(command, env=dict(environment), cwd=folder, bufsize=0, start_new_session=True, **pipes)  # noqa: S603
    ended = Ended()
    threads = [
        threading.Thread(target=_feed, args=(process.stdin, given), daemon=True),
        threading.Thread(target=_read_output, args=(process, process.stdout, ended, limits.output), daemon=True),
        threading.Thread(target=_read_complaints, args=(process.stderr, ended), daemon=True),
    ]
    for each in threads:
        each.start()
    try:
        process.wait(limits.seconds)
    except subprocess.TimeoutExpired:
        ended.is_late = True
    finally:
        _kill(process)
        ended.code = process.wait()
    for each in threads:
        each.join(_SECONDS_TO_CLOSE)
    return ended


def _feed(pipe: IO[bytes], given: bytes) -> None:
    with suppress(OSError), pipe:  # it may have ended
        rest = memoryview(given)
        while rest:
            rest = rest[pipe.write(rest) :]


def _read_output(process: subprocess.Popen[Any], pipe: IO[bytes], ended: Ended, most: int) -> None:
    with pipe:
        while chunk := pipe.read(_CHUNK):
            ended.output += chunk[: most - len(ended.output)]
            if len(ended.output) >= most:
                ended.is_long = True
                _kill(process)
                return


def _read_complaints(pipe: IO[bytes], ended: Ended) -> None:
    with pipe:
        while chunk := pipe.read(_CHUNK):
            ended.complaints += chunk
            del ended.complaints[:-_LAST_WORDS]


def _kill(process: subprocess.Popen[Any]) -> None:
    """End a process, and those of its group."""
    with suppress(ProcessLookupError, PermissionError):
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
