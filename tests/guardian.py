"""Ends what a run of the tests has started when the run is gone, however it went: also when it was killed.

Runs by itself, ``python guardian.py``. Its standard input tells what is started and ended; where it ends, the run has ended.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path


def stop_server(folder: Path) -> None:
    """Stop a PostgreSQL server at once, and remove its folder."""
    with suppress(OSError, ValueError):
        pid = int((folder / "postmaster.pid").read_text().split(maxsplit=1)[0])
        os.kill(pid, signal.SIGQUIT)
        for _ in range(600):
            os.kill(pid, 0)  # ProcessLookupError when it has gone
            time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Listen until the run is gone, then end what is left."""
    groups: set[int] = set()
    folders: list[Path] = []
    for line in sys.stdin:
        what, _, about = line.rstrip("\n").partition(" ")
        match what:
            case "started":
                groups.add(int(about))
            case "ended":
                groups.discard(int(about))
            case "server":
                folders.append(Path(about))
    for each in groups:
        with suppress(OSError):
            os.killpg(each, signal.SIGKILL)
    for folder in folders:
        if folder.exists():
            stop_server(folder)


if __name__ == "__main__":
    main()
