"""What code of the application raises can be written, whatever it is; and it ends the program only where it is meant to."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from sa_eventsource.application_errors import ends_program, is_loggable, storable, text_of, traceback_of


class Exiting(Exception):
    """Whose text ends the program."""

    def __str__(self) -> str:
        raise SystemExit


class Odd(Exception):
    """Which a traceback cannot be made of."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__notes__":
            raise ValueError
        return super().__getattribute__(name)


@pytest.mark.parametrize("error", [ValueError("\udcff\x00é"), Exiting(), Odd("x"), KeyError("\ud800"), ValueError(b"\xff")])
def test_every_error_can_be_stored(error: Exception) -> None:
    for written in (text_of(error), traceback_of(error)):
        assert written
        assert "\x00" not in written
        written.encode()


def test_a_traceback_that_a_file_cannot_hold_is_nothing_for_a_log() -> None:
    assert not is_loggable(ValueError("\udcff"))
    assert not is_loggable(ExceptionGroup("", [ValueError("\udcff")]))
    assert is_loggable(ValueError("é"))


def test_what_can_be_stored_is_left_as_it_is() -> None:
    assert storable("naïve \N{PILE OF POO}\n") == "naïve \N{PILE OF POO}\n"
    assert storable("\udcff\x00") == "\\udcff\\x00"


@pytest.mark.parametrize(
    "error", [ValueError(), SystemExit(), GeneratorExit(), asyncio.CancelledError(), BaseExceptionGroup("", [SystemExit()])]
)
def test_a_handlers_failure_ends_nothing(error: BaseException) -> None:
    assert not ends_program(error)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), BaseExceptionGroup("", [ValueError(), KeyboardInterrupt()])])
def test_an_interrupt_does(error: BaseException) -> None:
    assert ends_program(error)


class Server:
    """Which is stopped by a signal."""

    def stop(self, *_: object) -> None:
        sys.exit(1)

    def __call__(self, *_: object) -> None:
        sys.exit(1)


@pytest.mark.parametrize("handler", [Server().stop, Server(), partial(Server().stop, 1), lambda *_: sys.exit(1)])
def test_what_the_handler_of_a_signal_raises_does(handler: Callable[..., None]) -> None:
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(SystemExit) as caught:
            signal.raise_signal(signal.SIGUSR1)
        assert ends_program(caught.value)
        in_a_thread: list[bool] = []
        thread = threading.Thread(target=lambda: in_a_thread.append(ends_program(caught.value)))
        thread.start()
        thread.join()
        assert in_a_thread == [False]  # where no signal is handled
    finally:
        signal.signal(signal.SIGUSR1, before)


async def test_the_end_of_the_task_does() -> None:
    assert ends_program(GeneratorExit(), awaited=True)
    assert not ends_program(asyncio.CancelledError(), awaited=True)  # of another task
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await asyncio.sleep(1)
    assert ends_program(caught.value, awaited=True)
    task.uncancel()
