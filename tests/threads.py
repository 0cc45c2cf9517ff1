"""Work in threads of its own, and what it raised."""

from __future__ import annotations

import threading
from collections.abc import Callable


def in_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
    """Start work; give its thread, and the list that will have its error if there is one."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, errors


def together(*works: Callable[[], object]) -> None:
    """Do several works at once, and raise what one of them raised."""
    started = [in_thread(work) for work in works]
    for thread, _ in started:
        thread.join(120)
    for thread, errors in started:
        for error in errors:
            raise error
        assert not thread.is_alive()
