"""How often a worker looks, and how long it waits."""

from __future__ import annotations

from dataclasses import dataclass, fields

from sa_eventsource.projections import RetryPolicy

_LONGEST = 1_000_000
"""Eleven days; PostgreSQL counts its limits in milliseconds, 32 bits of them."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a worker asks for news, and how long it waits for what stands in its way, in seconds.

    It asks again after a tenth of the time for which nothing was new: the busier the log, the sooner.

    Attributes:
        shortest: The shortest pause between two questions.
        longest: The longest pause, on a log that has been quiet for long.
        listening: The longest pause of a worker that hears of commits.
        every_follower: How often the checkpoints are looked at: other workers may have died while at work.
        longest_outage: The longest pause while the database cannot be reached.
        longest_wait: The longest pause of a follower that cannot go on while the others do, because of a lock for example.
        lock_wait: How long to wait for a lock, where the connections have no ``lock_timeout`` of their own. All followers of the
            worker wait as long.
        longest_idle: How long a transaction of a read model may stand idle between two statements, as when the worker's process is
            frozen. Then PostgreSQL ends the connection, others take the model over, and a handler that took so long has failed. An
            ``idle_in_transaction_session_timeout`` of the connection's own that is shorter holds.
        longest_call: The same for a subscription, whose function may wait for other systems: how long it may take, if it uses the
            session only before and after.
        turn: How long a follower works until the next one gets its turn, roughly. A batch of a subscription ends with it.
    """

    shortest: float = 0.002
    longest: float = 0.3
    listening: float = 1.0
    every_follower: float = 1.0
    longest_outage: float = 5.0
    longest_wait: float = 2.0
    lock_wait: float = 1.0
    longest_idle: float = 5.0
    longest_call: float = 60.0
    turn: float = 0.1

    def __post_init__(self) -> None:
        """Check the figures.

        Raises:
            TypeError: One is no number.
            ValueError: One is not above 0, or longer than a database can wait; or the shortest pause is longer than the longest.
        """
        for each in fields(self):
            value = getattr(self, each.name)
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise TypeError(f"Pace({each.name}=...) takes a number of seconds, not {value!r}")
            if not 0 < value <= _LONGEST:
                raise ValueError(f"Pace({each.name}={value!r}): seconds are above 0, and {_LONGEST:,} at the most")
        for name in ("longest", "listening", "longest_outage"):
            if getattr(self, name) < self.shortest:
                raise ValueError(f"Pace(shortest={self.shortest!r}) is longer than {name}={getattr(self, name)!r}")


def check_pace(where: str, pace: Pace | None, retries: RetryPolicy | None) -> tuple[Pace, RetryPolicy]:
    """Take what says how often a worker looks and tries, or the usual.

    Args:
        where: Who takes it, for the message.
        pace: What the caller gave.
        retries: Likewise.

    Raises:
        TypeError: One is of another type.
    """
    if not isinstance(pace, Pace | None):
        raise TypeError(f"{where} takes pace=Pace(...), not {pace!r}")
    if not isinstance(retries, RetryPolicy | None):
        raise TypeError(f"{where} takes retries=RetryPolicy(attempts=...), not {retries!r}")
    return pace or Pace(), retries or RetryPolicy()
