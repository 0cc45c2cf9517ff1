"""Read models over the event log of the BPI Challenge 2012: what a bank would want to look at, from 262,200 events.

    python loan_read_models.py bpi2012_loan_applications.csv.gz [--url postgresql+psycopg://...] [--applications N]

The log is imported as in ``loan_applications.py``. Then three read models are built from it: the list of applications, the work of
each employee on each day, and the amounts by outcome and month, which a handler adds up. Their totals are compared with plain SQL
over the events and, for the whole log, with the published figures. The exit status is 1 when one is off.
"""

from __future__ import annotations

import argparse
import sys
import time
from datetime import date
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from example_server import example_engine, server_version
from loan_applications import (
    APPLICATIONS,
    PUBLISHED,
    ApplicationAccepted,
    ApplicationActivated,
    ApplicationApproved,
    ApplicationCancelled,
    ApplicationDeclined,
    ApplicationFinalized,
    ApplicationPartlySubmitted,
    ApplicationPreaccepted,
    ApplicationRegistered,
    ApplicationSubmitted,
    Base,
    LoanApplication,
    OfferAccepted,
    OfferCancelled,
    OfferCreated,
    OfferDeclined,
    OfferSelected,
    OfferSent,
    OfferSentBack,
    Status,
    Work,
    WorkClosed,
    WorkCompleted,
    WorkScheduled,
    WorkStarted,
    WorkTakenOver,
    import_log,
    read_log,
)
from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from sa_eventsource import (
    DomainEvent,
    EventRecord,
    EventReplayer,
    ReadModel,
    ReadModelManager,
    RecordedEvent,
    handles,
    load_for_update,
    map_from_event,
)
from sa_eventsource.read_models import append, count, day, max_

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

ZONE = "Europe/Amsterdam"
WORK_EVENTS = (WorkScheduled, WorkStarted, WorkTakenOver, WorkCompleted, WorkClosed)
STATUS_EVENTS: dict[type[DomainEvent], Status] = {
    ApplicationSubmitted: Status.SUBMITTED,
    ApplicationPartlySubmitted: Status.PARTLY_SUBMITTED,
    ApplicationPreaccepted: Status.PREACCEPTED,
    ApplicationAccepted: Status.ACCEPTED,
    ApplicationFinalized: Status.FINALIZED,
}
OUTCOME_EVENTS: dict[type[DomainEvent], str] = {
    ApplicationApproved: "approved",
    ApplicationDeclined: "declined",
    ApplicationCancelled: "cancelled",
}
OTHER_EVENTS = (
    ApplicationRegistered,
    ApplicationActivated,
    OfferSelected,
    OfferCreated,
    OfferSent,
    OfferSentBack,
    OfferAccepted,
    OfferDeclined,
    OfferCancelled,
)
ALL_EVENTS: tuple[type[DomainEvent], ...] = (*STATUS_EVENTS, *OUTCOME_EVENTS, *OTHER_EVENTS, *WORK_EVENTS)


class ApplicationList(ReadModel, Base):
    """One row an application."""

    __projection_name__ = "application_list"

    id: Mapped[str]
    status: Mapped[Status] = map_from_event(STATUS_EVENTS, index=True)
    outcome: Mapped[str | None] = map_from_event(OUTCOME_EVENTS, index=True)
    amount: Mapped[int] = map_from_event(ApplicationSubmitted)
    last_activity: Mapped[str] = map_from_event(*ALL_EVENTS, source="event_type")
    last_activity_on: Mapped[date] = map_from_event(*ALL_EVENTS, reduce=max_(day("occurred_at", ZONE)))
    employee: Mapped[int | None] = map_from_event(WorkStarted, WorkTakenOver)


class WorkPerDay(ReadModel, Base):
    """What each employee did on each day."""

    __projection_name__ = "work_per_day"

    resource: Mapped[str] = map_from_event(key=True, source="metadata.resource")
    day: Mapped[date] = map_from_event(key=True, source=day("occurred_at", ZONE))
    steps: Mapped[int] = map_from_event(*WORK_EVENTS, reduce=count())
    kinds: Mapped[list[Work]] = map_from_event(*WORK_EVENTS, reduce=append("work", distinct=True))


class AmountByOutcome(ReadModel, Base):
    """How much was approved, declined and cancelled in each month.

    The events of an outcome do not contain the amount, which the first event of the stream does: a handler looks it up.
    """

    __tablename__ = "amount_by_outcome"

    outcome: Mapped[str] = mapped_column(primary_key=True)
    month: Mapped[date] = mapped_column(primary_key=True)
    applications: Mapped[int] = mapped_column(default=0)
    amount: Mapped[int] = mapped_column(default=0)

    @classmethod
    @handles(*OUTCOME_EVENTS)
    def _decided(cls, event: RecordedEvent, session: Session) -> None:
        first = select(EventRecord.event_data["amount"].as_integer()).where(
            EventRecord.aggregate_type == event.aggregate_type,
            EventRecord.aggregate_id == event.aggregate_id,
            EventRecord.version == 1,
        )
        with session.no_autoflush:  # what the events before have changed can wait until the batch is complete
            amount = session.scalars(first).one()
        row = load_for_update(session, cls, (OUTCOME_EVENTS[type(event.event)], event.occurred_at.date().replace(day=1)))
        row.applications += 1
        row.amount += amount


# What the same totals are as plain SQL over events.
_WORK_BY_HAND = text("""
    SELECT count(*), count(DISTINCT (metadata->>'resource', (occurred_at AT TIME ZONE 'Europe/Amsterdam')::date)) FROM events
    WHERE event_type LIKE 'Work%' AND metadata ? 'resource'
""")
_AMOUNTS_BY_HAND = text("""
    SELECT count(*), sum((first.event_data->>'amount')::int) FROM events JOIN events AS first USING (aggregate_type, aggregate_id)
    WHERE first.version = 1 AND events.event_type IN ('ApplicationApproved', 'ApplicationDeclined', 'ApplicationCancelled')
""")
_REQUESTED_BY_HAND = text(
    "SELECT count(*), sum((event_data->>'amount')::int) FROM events WHERE event_type = 'ApplicationSubmitted'"
)


def figures(session: Session, *, whole: bool) -> list[tuple[str, int, int]]:
    """Compare the read models with plain SQL and, for the whole log, with what was published."""
    rows, requested = session.execute(_REQUESTED_BY_HAND).one()
    steps, days = session.execute(_WORK_BY_HAND).one()
    decided, amount = session.execute(_AMOUNTS_BY_HAND).one()
    found = [
        ("applications in the list", rows, session.scalar(select(func.count()).select_from(ApplicationList)) or 0),
        ("amount requested, by the list", requested, session.scalar(select(func.sum(ApplicationList.amount))) or 0),
        ("rows of work per employee and day", days, session.scalar(select(func.count()).select_from(WorkPerDay)) or 0),
        ("steps of work in them", steps, session.scalar(select(func.sum(WorkPerDay.steps))) or 0),
        ("applications with an outcome", decided, session.scalar(select(func.sum(AmountByOutcome.applications))) or 0),
        ("their amount", amount or 0, session.scalar(select(func.sum(AmountByOutcome.amount))) or 0),
    ]
    if whole:
        for outcome, activity in (("declined", "A_DECLINED"), ("cancelled", "A_CANCELLED"), ("approved", "A_APPROVED")):
            listed = session.scalar(select(func.count()).select_from(ApplicationList).where(ApplicationList.outcome == outcome))
            found.append((f"{outcome}, as published", PUBLISHED[activity], listed or 0))
        found.append(("applications, as published", APPLICATIONS, rows))
    return found


def build(engine: Engine, console: Console) -> None:
    """Build the read models from the log, and say how long each took."""
    manager = ReadModelManager(engine, Base)
    for model in manager.models:
        start = time.perf_counter()
        taken = EventReplayer(engine, Base).rebuild(model)
        seconds = time.perf_counter() - start
        console.print(f"{model.__name__}: {taken:,} events in {seconds:.2f} s, {taken / seconds:,.0f} a second.")


def show(console: Console, session: Session) -> None:
    """Print what the read models are for."""
    table = Table(title="Amounts by outcome and month", title_justify="left")
    for heading in ("month", "outcome", "applications", "euros"):
        table.add_column(heading, justify="left" if heading in {"month", "outcome"} else "right")
    for row in session.scalars(select(AmountByOutcome).order_by(AmountByOutcome.month, AmountByOutcome.outcome)):
        table.add_row(f"{row.month:%Y-%m}", row.outcome, f"{row.applications:,}", f"{row.amount:,}")
    console.print(table)
    table = Table(title="The busiest days of an employee", title_justify="left")
    for heading in ("employee", "day", "steps", "kinds of work"):
        table.add_column(heading)
    people = (
        select(WorkPerDay)
        .where(WorkPerDay.resource != "112")
        .order_by(WorkPerDay.steps.desc(), WorkPerDay.day, WorkPerDay.resource)
    )
    for work in session.scalars(people.limit(5)):
        table.add_row(work.resource, f"{work.day}", f"{work.steps:,}", ", ".join(work.kinds))
    console.print(table)


def run(path: Path, url: str | None, applications: int | None, console: Console) -> bool:
    """Import, build, check and show; tell whether all figures agree."""
    with example_engine(url, "loan_read_models_example") as engine:
        Base.metadata.create_all(engine)
        console.print(f"Importing [bold]{path.name}[/] into PostgreSQL {server_version(engine)}.")
        imported = import_log(engine, islice(read_log(path), applications), lambda: None)
        console.print(f"{imported.applications:,} applications, {imported.events:,} events in {imported.seconds:.1f} s.")
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ANALYZE events"))
        build(engine, console)
        with Session(engine) as session:
            show(console, session)
            compared = figures(session, whole=applications is None)
            listed, application = (
                session.get_one(ApplicationList, imported.example),
                session.get_one(LoanApplication, imported.example),
            )
            agrees = (listed.outcome, listed.amount, listed.employee) == (
                application.outcome,
                application.amount,
                application.employee,
            )
    for name, expected, found in compared:
        agrees &= expected == found
        console.print(f"{name}: {found:,} {'[green]agrees[/]' if expected == found else f'[bold red]DIFFERS from {expected:,}[/]'}")
    return agrees


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line; 0 if all is well."""
    parser = argparse.ArgumentParser(description="Read models over the loan applications of the BPI Challenge 2012.")
    parser.add_argument("path", type=Path, help="the log as CSV, plain or compressed with gzip")
    parser.add_argument("--url", help="a PostgreSQL database to use instead of an embedded server, in a schema of its own")
    parser.add_argument("--applications", type=int, help="import only so many")
    options = parser.parse_args(arguments)
    return 0 if run(options.path, options.url, options.applications, Console()) else 1


if __name__ == "__main__":
    sys.exit(main())
