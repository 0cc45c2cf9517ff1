"""Retrying a unit of work that lost a race. Needs the ``retry`` extra (tenacity)."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sa_eventsource.arguments import whole_number
from sa_eventsource.extras import needs_extra
from sa_eventsource.session.lost_races import is_conflict

with needs_extra("retry", part="retry_on_conflict"):
    from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")


def retry_on_conflict(
    function: None = None, /, *, attempts: int = 5, initial_wait: float = 0.01, max_wait: float = 1.0
) -> Callable[[F], F]:
    """Run a function again when it lost a race; sync functions and coroutine functions alike.

    The function must be a whole unit of work: it opens its session, loads, decides and commits. What it loaded before is stale, and
    a session that failed cannot go on. Waits are random and grow exponentially, as in tenacity's ``wait_random_exponential``.

    Example::

        @retry_on_conflict()
        def pay(order_id: str) -> None:
            with Session(engine) as session:
                session.get_one(Order, order_id).pay()
                session.commit()

    Args:
        function: Nothing: the decorator is written with parentheses.
        attempts: How often to run it at most.
        initial_wait: Seconds; the first wait is between 0 and this.
        max_wait: Seconds; no wait is longer.

    Raises:
        ConcurrencyError: The last attempt lost as well. The last attempt's own error is raised, whichever it is.
        TypeError: *attempts* is no whole number, the decorator has no parentheses, or it is put on a generator, which would do its
            work when nobody watches any more.
        ValueError: *attempts* is less than 1.
    """
    if function is not None:
        raise TypeError("write @retry_on_conflict(), with parentheses")
    attempts = whole_number("attempts", attempts, minimum=1, meaning="how often to run the function at most, 1 or more")
    decorator: Any = retry(
        retry=retry_if_exception(is_conflict),
        stop=stop_after_attempt(attempts),
        wait=wait_random_exponential(multiplier=initial_wait, max=max_wait),
        reraise=True,
    )

    def decorate(work: F) -> F:
        if not callable(work):
            raise TypeError(f"retry_on_conflict() takes a function that is a whole unit of work, not {work!r}")
        if inspect.isgeneratorfunction(work) or inspect.isasyncgenfunction(work):
            raise TypeError(
                f"retry_on_conflict() cannot run a generator again; put the unit of work of {work.__qualname__} in a function"
            )
        return cast("F", decorator(work))

    return decorate


__all__ = ["is_conflict", "retry_on_conflict"]
