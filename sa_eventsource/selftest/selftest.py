"""The self-test: a run, and what is to be said of it."""

from __future__ import annotations

import math
import secrets
import tempfile
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, text
from sqlalchemy.exc import SQLAlchemyError

from sa_eventsource.exceptions import SelftestError
from sa_eventsource.projections import ReadModelManager, problems
from sa_eventsource.selftest.actors import act
from sa_eventsource.selftest.crew import Crew
from sa_eventsource.selftest.evidence import Evidence
from sa_eventsource.selftest.follower_judge import judge_followers
from sa_eventsource.selftest.followers import worker
from sa_eventsource.selftest.inspection import Inspection
from sa_eventsource.selftest.journal import Journal, Journals
from sa_eventsource.selftest.log_judge import judge_log
from sa_eventsource.selftest.own_schema import OwnSchema, own_schema
from sa_eventsource.selftest.plan import Plan, chance_of
from sa_eventsource.selftest.state_judge import judge_states
from sa_eventsource.selftest.subjects import Base
from sa_eventsource.selftest.verdicts import Verdict
from sa_eventsource.selftest.writers import Writer
from sa_eventsource.store import message_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from multiprocessing.connection import Connection
    from typing import TypeAlias

    from sqlalchemy import Engine

    from sa_eventsource.selftest.actors import Job

    Progress: TypeAlias = Callable[[str, float, int], None]

_NO_PROGRESS = 60.0
"""Seconds without progress after which those who follow the log are taken for stuck."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a run has found.

    Attributes:
        seed: What it was drawn from.
        seconds: For how long writers were at work.
        server: The server's version, as it tells it.
        schema: Name of the schema.
        figures: What happened: processes killed, connections cut, transactions by outcome.
        verdicts: On each guarantee.
        kept: The folder of the journals, where they and the schema were kept; None where they are gone.
    """

    seed: int
    seconds: float
    server: str
    schema: str
    figures: dict[str, int]
    verdicts: tuple[Verdict, ...]
    kept: Path | None = None

    @property
    def is_broken(self) -> bool:
        """Whether a guarantee was broken."""
        return any(each.ruling == "broken" for each in self.verdicts)

    @property
    def is_complete(self) -> bool:
        """Whether all guarantees were put to the test."""
        return all(each.ruling != "not tested" for each in self.verdicts)


def run_selftest(  # noqa: PLR0913 - each has a default
    url: str,
    *,
    seed: int | None = None,
    seconds: float = 30.0,
    connect_args: Mapping[str, Any] | None = None,
    keep: bool = False,
    progress: Progress | None = None,
    actor: Callable[[Job, Connection], None] = act,
) -> Report:
    """Put the published guarantees to the test on a PostgreSQL database.

    Processes of several kinds write, follow the log and get in each other's way, are killed and replaced, and lose their
    connections. Each notes what it knows for certain; in the end that is compared with what is in the database. All tables are in
    a schema that the run makes for itself and drops when it ends, an interrupt included; nothing else is read or changed. The role
    needs the privilege CREATE on the database, and no other.

    It starts processes by :mod:`multiprocessing`: a script that calls it needs ``if __name__ == "__main__":``.

    Example: ``assert not run_selftest("postgresql+psycopg://user@host/name", seconds=10).is_broken``

    Args:
        url: SQLAlchemy URL of the database, with psycopg as its driver.
        seed: What all is drawn from, as far as processes that run at once can repeat anything; None for another one each time.
        seconds: For how long writers are at work.
        connect_args: What the driver's connections take besides the URL, as for ``create_engine``: ``{"prepare_threshold": None}``
            behind a pooler that loses prepared statements.
        keep: Whether to leave the schema and the journals where they are.
        progress: Called with the stage, how much of it is done (between 0 and 1), and how many events there are.
        actor: What runs in a process; for tests of the self-test itself.

    Returns:
        What was found. A guarantee that was not put to the test, because the time was too short, has not held.

    Raises:
        SelftestError: It could not run; the message says why.
        TypeError: An argument is of another type than is wanted.
        ValueError: *seconds* is not above 0.
    """
    _check(url, seed, seconds, connect_args)
    plan = Plan.draw(secrets.randbits(32) if seed is None else seed, seconds)
    schema = OwnSchema.of_a_new_name(url, connect_args or {})
    with _folder(keep=keep) as folder, own_schema(schema, keep=keep) as engine:
        run = _Run(plan, schema, engine, Path(folder), progress or _show_nothing, actor)
        try:
            return run.report(kept=keep)
        except SQLAlchemyError as error:
            raise SelftestError(message_of(error)) from error


def _check(url: object, seed: object, seconds: object, connect_args: object) -> None:
    if not isinstance(url, str):
        advice = "; of a URL, url.render_as_string(hide_password=False)" if isinstance(url, URL) else ""
        raise TypeError(f"run_selftest() takes the database's URL as text, such as {_EXAMPLE!r}, not {url!r}{advice}")
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
        raise TypeError(f"run_selftest(seed=...) takes a whole number or None, not {seed!r}")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        raise TypeError(f"run_selftest(seconds=...) takes a number of seconds, not {seconds!r}")
    if not 0 < seconds < math.inf:
        raise ValueError(f"run_selftest(seconds={seconds!r}): seconds are above 0, and not without end")
    if connect_args is not None and not isinstance(connect_args, Mapping):
        raise TypeError(
            f"run_selftest(connect_args=...) takes a mapping, such as {{'prepare_threshold': None}}, not {connect_args!r}"
        )


_EXAMPLE = "postgresql+psycopg://user@host/name"


def judge(engine: Engine, evidence: Evidence) -> tuple[Verdict, ...]:
    """Rule on all guarantees.

    Args:
        engine: Of the schema, where nobody is at work any more.
        evidence: What is known of the run.
    """
    expected = Verdict.of(
        "errors",
        "Nothing fails but what may: conflicts, deadlocks, lost connections",
        len(evidence.journals.transactions),
        "transactions",
        evidence.failures,
    )
    return (*judge_log(evidence), *judge_followers(evidence), *judge_states(engine, evidence), expected)


@dataclass(frozen=True, slots=True)
class _Run:
    plan: Plan
    schema: OwnSchema
    engine: Engine
    folder: Path
    show: Progress
    actor: Callable[[Job, Connection], None]

    def report(self, *, kept: bool) -> Report:
        """Do all that there is to do."""
        with self.engine.connect() as connection:
            server: str = connection.execute(text("SHOW server_version")).scalar_one()
        begun = time.time()
        self.show("starting", 0.0, 0)
        self._begin_the_log(begun)
        crew, inspection = self._carry_out(begun)
        stuck = self._settle()
        evidence = Evidence.read(self.engine, Journals.read(self.folder), inspection, [*crew.failures, *stuck])
        self.show("judging", 0.0, len(evidence.events))
        return Report(
            seed=self.plan.seed,
            seconds=self.plan.seconds,
            server=server,
            schema=self.schema.name,
            figures=_figures(crew, evidence),
            verdicts=judge(self.engine, evidence),
            kept=self.folder if kept else None,
        )

    def _begin_the_log(self, begun: float) -> None:
        with Journal(self.folder / "first.journal") as journal:
            Writer("first", self.engine, journal, chance_of(self.plan.seed, "first"), begun).begin_the_log()

    def _carry_out(self, begun: float) -> tuple[Crew, Inspection]:
        """Let all be at work for as long as the plan says, and kill whom it says."""
        crew = Crew(self.plan, self.schema, self.folder, begun, self.actor)
        with crew, Inspection(self.engine, chance_of(self.plan.seed, "inspection")) as inspection:
            start = time.monotonic()
            kills, whole_since = list(self.plan.kills), start
            while (passed := time.monotonic() - start) < self.plan.seconds:
                if not crew.is_whole():
                    whole_since = time.monotonic()
                elif kills and time.monotonic() - whole_since >= kills[0].after:
                    crew.kill(kills.pop(0).actor)
                self.show("writing", passed / self.plan.seconds, inspection.events)
                time.sleep(min(0.1, self.plan.seconds - passed))
            self.show("stopping", 0.0, inspection.events)
            crew.stop()
        self._check_that_it_could()
        if inspection.error is not None:
            raise inspection.error
        return crew, inspection

    def _check_that_it_could(self) -> None:
        hindrances = Journals.read(self.folder).hindrances
        if hindrances:
            raise SelftestError(hindrances[0])

    def _settle(self) -> list[str]:
        """Let a worker take what is left; tell what could not be taken."""
        manager = ReadModelManager(self.engine, Base)
        with Journal(self.folder / "settling.journal") as journal:
            last = worker(self.engine, journal)
            least: tuple[int, int] | None = None
            since = time.monotonic()
            while True:
                last.run_once()
                statuses = manager.status()
                behind = sum(each.lag_events for each in statuses)
                wrong = problems(statuses)
                if not behind and not wrong:
                    return []
                # What is far behind is not counted to its end: then it has come nearer if its position has grown.
                remaining = behind, -sum(each.position for each in statuses)
                if least is None or remaining < least:
                    least, since = remaining, time.monotonic()
                elif time.monotonic() - since > _NO_PROGRESS:
                    return wrong or [f"{each.name} has not taken {each.lag_in_words}" for each in statuses if each.lag_events]
                self.show("following", 0.0, behind)
                time.sleep(0.05)


def _figures(crew: Crew, evidence: Evidence) -> dict[str, int]:
    counts = evidence.journals.counts
    outcomes = [each.outcome for each in evidence.journals.transactions.values()]
    return {
        "events": len(evidence.events),
        "processes killed": crew.kills,
        "connections cut in a transaction": counts["cut in a transaction"],
        "connections cut before a commit": counts["cut before a commit"],
        "connections cut during a commit": counts["cut during a commit"],
        "transactions of strangers": counts["stranger"],
        "deadlocks": counts["deadlock"],
        "reads that came too late": counts["read too late"],
        **{
            f"transactions {outcome}": outcomes.count(outcome)
            for outcome in ("committed", "rolled back", "refused", "cut", "unknown")
        },
    }


def _folder(*, keep: bool) -> AbstractContextManager[str]:
    if keep:
        return nullcontext(tempfile.mkdtemp(prefix="sa_eventsource_selftest_"))
    return tempfile.TemporaryDirectory(prefix="sa_eventsource_selftest_", ignore_cleanup_errors=True)


def _show_nothing(_stage: str, _done: float, _events: int) -> None:
    pass
