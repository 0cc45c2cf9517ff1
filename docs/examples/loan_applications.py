"""Import the event log of the BPI Challenge 2012: 13,087 loan applications at a Dutch bank, 262,200 events.

    python loan_applications.py bpi2012_loan_applications.csv.gz [--url postgresql+psycopg://...] [--applications N]

Every application becomes a ``LoanApplication`` with its own event stream, written in a transaction of its own at the times the log
gives. The aggregate does not take the log's word for it: each step is a method that refuses what cannot happen, and all steps of
all applications pass. Afterwards the figures in the database are compared with the published ones, and one application is shown,
as a trail and as it stood at a date in the middle. The exit status is 1 when a figure is off or a step was refused.

The rules, as the log obeys them:

* An application is submitted, partly submitted, pre-accepted, accepted and finalized, in this order. It may be declined or
  cancelled from partly submitted on, and then stays so. 399 are still open when the log ends.
* A finalized application is approved, registered and activated: each once, in any order, because the log gives the three, and the
  acceptance of the offer, one time. It takes an offer with the customer, or accepted. There is no way back from there.
* An offer is selected once the application is accepted, created once it is finalized, then sent, and maybe sent back by the
  customer. It is accepted, declined or cancelled. There is one offer at a time: the one before is cancelled first.
* An offer is accepted only with an approval, declined only with a decline, in whichever order the two are logged; after its offer
  was accepted an application is not declined or cancelled, after it was declined not approved or cancelled.
* Work on an application is scheduled before it is started, at a stage where that kind of work makes sense; but nothing new is
  scheduled after the outcome, except a change of contract details.
* An application is on one desk at a time: work starts when no other is in progress.

What the data needs beyond that:

* Two starts, in two applications, find the same kind of work in progress; somebody else has taken it over.
* 1,042 completions, of 72,413, end work that nobody had in progress; they are recorded as work closed.
* Three approved applications (177083, 180310, 198310) have no record that the offer was accepted; it stays with the customer.
* In two applications, work to complete them is scheduled before they are pre-accepted; it is never started before.
* Work that was scheduled may be started after the outcome: 72 starts in all, most of them calls about an offer or a document.
* 3,033 applications were registered up to a second before they were submitted. Both times are kept.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import sys
import time
from collections import Counter
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from example_server import example_engine, server_version
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from sqlalchemy import func, select
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import AggregateRoot, DomainEvent, EventRecord, applies, event_context
from sa_eventsource.repository import EventSourcedRepository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sqlalchemy import Engine

# -- the domain --------------------------------------------------------------------------------------------------------


class Status(StrEnum):
    """How far an application has come."""

    SUBMITTED = "submitted"
    PARTLY_SUBMITTED = "partly submitted"
    PREACCEPTED = "pre-accepted"
    ACCEPTED = "accepted"
    FINALIZED = "finalized"
    APPROVED = "approved"
    DECLINED = "declined"
    CANCELLED = "cancelled"


class OfferStatus(StrEnum):
    """How far the application's latest offer has come."""

    CREATED = "created"
    SENT = "sent"
    SENT_BACK = "sent back"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    CANCELLED = "cancelled"


class ApprovalStep(StrEnum):
    """The three steps that make an approval complete."""

    APPROVED = "approved"
    REGISTERED = "registered"
    ACTIVATED = "activated"


class Work(StrEnum):
    """Kinds of work, and what the log calls them."""

    HANDLE_LEAD = "handle lead"  # Afhandelen leads
    COMPLETE_APPLICATION = "complete application"  # Completeren aanvraag
    FOLLOW_UP_OFFER = "follow up offer"  # Nabellen offertes
    VALIDATE_APPLICATION = "validate application"  # Valideren aanvraag
    FOLLOW_UP_MISSING_DOCUMENTS = "follow up missing documents"  # Nabellen incomplete dossiers
    ASSESS_FRAUD = "assess fraud"  # Beoordelen fraude
    CHANGE_CONTRACT_DETAILS = "change contract details"  # Wijzigen contractgegevens


class ApplicationSubmitted(DomainEvent):
    """A customer applied for a loan."""

    amount: int
    registered_at: datetime


class ApplicationPartlySubmitted(DomainEvent):
    """The application was taken in, though not complete yet."""


class ApplicationPreaccepted(DomainEvent):
    """The application was accepted on the condition that more information comes."""


class ApplicationAccepted(DomainEvent):
    """The application passed its checks; an offer may be made."""


class ApplicationFinalized(DomainEvent):
    """The application is complete."""


class ApplicationApproved(DomainEvent):
    """The loan was approved."""


class ApplicationRegistered(DomainEvent):
    """The loan was registered."""


class ApplicationActivated(DomainEvent):
    """The loan was activated."""


class ApplicationDeclined(DomainEvent):
    """The bank said no."""


class ApplicationCancelled(DomainEvent):
    """The customer gave up, or did not answer."""


class OfferSelected(DomainEvent):
    """An offer was chosen for the customer."""


class OfferCreated(DomainEvent):
    """The offer was written."""


class OfferSent(DomainEvent):
    """The offer went to the customer."""


class OfferSentBack(DomainEvent):
    """The customer's answer came."""


class OfferAccepted(DomainEvent):
    """The bank took the signed offer."""


class OfferDeclined(DomainEvent):
    """The bank turned the signed offer down."""


class OfferCancelled(DomainEvent):
    """The offer was withdrawn."""


class WorkScheduled(DomainEvent):
    """Work on the application was planned."""

    work: Work


class WorkStarted(DomainEvent):
    """Somebody began with it."""

    work: Work
    employee: int | None


class WorkTakenOver(DomainEvent):
    """Somebody began with work that another had in progress."""

    work: Work
    employee: int | None


class WorkCompleted(DomainEvent):
    """Work in progress was laid down, finished or to be continued."""

    work: Work


class WorkClosed(DomainEvent):
    """Work that nobody had in progress was closed."""

    work: Work


class ImpossibleStepError(Exception):
    """An application cannot take a step, in the state it is in."""

    def __init__(self, application: LoanApplication, step: str, reason: str) -> None:
        """Build the message from the application and the step."""
        self.application_id = application.id
        self.step = step
        super().__init__(f"application {application.id} cannot {step}: {reason}")


_OUTCOMES: Final = frozenset({Status.APPROVED, Status.DECLINED, Status.CANCELLED})
_WITH_CUSTOMER: Final = frozenset({OfferStatus.SENT, OfferStatus.SENT_BACK})
_EARLIEST: Final[dict[Work, Status]] = {
    Work.HANDLE_LEAD: Status.PARTLY_SUBMITTED,
    Work.ASSESS_FRAUD: Status.PARTLY_SUBMITTED,
    Work.COMPLETE_APPLICATION: Status.PARTLY_SUBMITTED,
    Work.FOLLOW_UP_OFFER: Status.FINALIZED,
    Work.VALIDATE_APPLICATION: Status.FINALIZED,
    Work.FOLLOW_UP_MISSING_DOCUMENTS: Status.FINALIZED,
    Work.CHANGE_CONTRACT_DETAILS: Status.PARTLY_SUBMITTED,
}
_EARLIEST_START: Final = {**_EARLIEST, Work.COMPLETE_APPLICATION: Status.PREACCEPTED}
_STAGES: Final = {status: stage for stage, status in enumerate(Status)}


class Base(DeclarativeBase):
    """The example's declarative base."""


class LoanApplication(AggregateRoot, Base):
    """A loan application, from the customer's request to the outcome."""

    status: Status = Status.SUBMITTED
    amount: int = 0
    offer_selected: bool = False
    offer: OfferStatus | None = None
    offers_made: int = 0
    approval: frozenset[ApprovalStep] = frozenset()
    scheduled: frozenset[Work] = frozenset()
    in_progress: Work | None = None
    employee: int | None = None

    @property
    def outcome(self) -> Status | None:
        """Approved, declined or cancelled; None while it is open."""
        return self.status if self.status in _OUTCOMES else None

    # The way of an application.

    @classmethod
    def submit(cls, application_id: str, amount: int, registered_at: datetime, *, at: datetime) -> LoanApplication:
        """Apply for a loan of some euros."""
        application = cls(id=application_id)
        if amount < 0:
            raise ImpossibleStepError(application, "be submitted", f"the amount is {amount} euros")
        application.apply_event(ApplicationSubmitted(amount=amount, registered_at=registered_at), occurred_at=at)
        return application

    def partly_submit(self, at: datetime) -> None:
        """Take the application in."""
        self._require_status("be partly submitted", Status.SUBMITTED)
        self.apply_event(ApplicationPartlySubmitted(), occurred_at=at)

    def preaccept(self, at: datetime) -> None:
        """Accept it on condition."""
        self._require_status("be pre-accepted", Status.PARTLY_SUBMITTED)
        self.apply_event(ApplicationPreaccepted(), occurred_at=at)

    def accept(self, at: datetime) -> None:
        """Let it pass the checks."""
        self._require_status("be accepted", Status.PREACCEPTED)
        self.apply_event(ApplicationAccepted(), occurred_at=at)

    def finalize(self, at: datetime) -> None:
        """Call it complete."""
        self._require_status("be finalized", Status.ACCEPTED)
        self.apply_event(ApplicationFinalized(), occurred_at=at)

    def approve(self, at: datetime) -> None:
        """Approve the loan."""
        self._require_approvable(ApprovalStep.APPROVED)
        self.apply_event(ApplicationApproved(), occurred_at=at)

    def register(self, at: datetime) -> None:
        """Register the loan."""
        self._require_approvable(ApprovalStep.REGISTERED)
        self.apply_event(ApplicationRegistered(), occurred_at=at)

    def activate(self, at: datetime) -> None:
        """Activate the loan."""
        self._require_approvable(ApprovalStep.ACTIVATED)
        self.apply_event(ApplicationActivated(), occurred_at=at)

    def decline(self, at: datetime) -> None:
        """Say no."""
        self._require_endable("be declined", besides=OfferStatus.DECLINED)
        self.apply_event(ApplicationDeclined(), occurred_at=at)

    def cancel(self, at: datetime) -> None:
        """End it without a decision of the bank."""
        self._require_endable("be cancelled", besides=OfferStatus.CANCELLED)
        self.apply_event(ApplicationCancelled(), occurred_at=at)

    # The way of an offer.

    def select_offer(self, at: datetime) -> None:
        """Choose an offer for the customer."""
        self._require_status("get an offer", Status.ACCEPTED, Status.FINALIZED)
        if self.offer_selected:
            raise ImpossibleStepError(self, "get an offer", "one is selected and not created yet")
        if self.offer not in {None, OfferStatus.CANCELLED, *_WITH_CUSTOMER}:
            raise ImpossibleStepError(self, "get an offer", f"the last one is {self.offer}")
        self.apply_event(OfferSelected(), occurred_at=at)

    def create_offer(self, at: datetime) -> None:
        """Write the offer that was selected."""
        self._require_status("create an offer", Status.FINALIZED)
        if not self.offer_selected:
            raise ImpossibleStepError(self, "create an offer", "none is selected")
        if self.offer not in {None, OfferStatus.CANCELLED}:
            raise ImpossibleStepError(self, "create an offer", f"the one before is {self.offer}, not cancelled")
        self.apply_event(OfferCreated(), occurred_at=at)

    def send_offer(self, at: datetime) -> None:
        """Send it to the customer."""
        self._require_status("send an offer", Status.FINALIZED)
        self._require_offer("send an offer", OfferStatus.CREATED)
        self.apply_event(OfferSent(), occurred_at=at)

    def receive_offer(self, at: datetime) -> None:
        """Take the customer's answer in."""
        self._require_status("get an offer back", Status.FINALIZED)
        self._require_offer("get an offer back", OfferStatus.SENT)
        self.apply_event(OfferSentBack(), occurred_at=at)

    def accept_offer(self, at: datetime) -> None:
        """Take the signed offer."""
        self._require_status("accept an offer", Status.FINALIZED, Status.APPROVED)
        self._require_offer("accept an offer", *_WITH_CUSTOMER)
        self.apply_event(OfferAccepted(), occurred_at=at)

    def decline_offer(self, at: datetime) -> None:
        """Turn the signed offer down."""
        self._require_status("decline an offer", Status.FINALIZED, Status.DECLINED)
        self._require_offer("decline an offer", *_WITH_CUSTOMER)
        self.apply_event(OfferDeclined(), occurred_at=at)

    def cancel_offer(self, at: datetime) -> None:
        """Withdraw the offer."""
        self._require_status("cancel an offer", Status.FINALIZED, Status.CANCELLED)
        self._require_offer("cancel an offer", *_WITH_CUSTOMER)
        self.apply_event(OfferCancelled(), occurred_at=at)

    # Work on it.

    def schedule_work(self, work: Work, at: datetime) -> None:
        """Plan work."""
        if self.outcome is not None and work is not Work.CHANGE_CONTRACT_DETAILS:
            raise ImpossibleStepError(self, f"have {work} scheduled", f"it is {self.status}")
        self._require_stage(f"have {work} scheduled", _EARLIEST[work])
        self.apply_event(WorkScheduled(work=work), occurred_at=at)

    def start_work(self, work: Work, employee: int | None, at: datetime) -> None:
        """Put the application on somebody's desk, or on somebody else's."""
        self._require_scheduled(f"have {work} started", work)
        self._require_stage(f"have {work} started", _EARLIEST_START[work])
        if self.in_progress is None:
            self.apply_event(WorkStarted(work=work, employee=employee), occurred_at=at)
        elif self.in_progress is work:
            self.apply_event(WorkTakenOver(work=work, employee=employee), occurred_at=at)
        else:
            raise ImpossibleStepError(self, f"have {work} started", f"{self.in_progress} is in progress")

    def complete_work(self, work: Work, at: datetime) -> None:
        """Take the application off the desk again, or close work that nobody has on the desk."""
        self._require_scheduled(f"have {work} completed", work)
        self.apply_event(WorkCompleted(work=work) if self.in_progress is work else WorkClosed(work=work), occurred_at=at)

    # What the steps ask for.

    def _require_status(self, step: str, *allowed: Status) -> None:
        if self.status not in allowed:
            raise ImpossibleStepError(self, step, f"it is {self.status}, not {' or '.join(allowed)}")

    def _require_stage(self, step: str, earliest: Status) -> None:
        if _STAGES[self.status] < _STAGES[earliest]:
            raise ImpossibleStepError(self, step, f"it is {self.status}, and not {earliest} yet")

    def _require_offer(self, step: str, *allowed: OfferStatus) -> None:
        if self.offer not in allowed:
            found = self.offer or "not made yet"
            raise ImpossibleStepError(self, step, f"its offer is {found}, not {' or '.join(sorted(allowed))}")

    def _require_approvable(self, step: ApprovalStep) -> None:
        self._require_status(f"be {step}", Status.FINALIZED, Status.APPROVED)
        self._require_offer(f"be {step}", OfferStatus.ACCEPTED, *_WITH_CUSTOMER)
        if step in self.approval:
            raise ImpossibleStepError(self, f"be {step}", "it is already")

    def _require_endable(self, step: str, *, besides: OfferStatus) -> None:
        self._require_status(step, Status.PARTLY_SUBMITTED, Status.PREACCEPTED, Status.ACCEPTED, Status.FINALIZED)
        if self.offer_selected:
            raise ImpossibleStepError(self, step, "an offer is being made")
        if self.offer is not None:
            self._require_offer(step, besides, *_WITH_CUSTOMER)

    def _require_scheduled(self, step: str, work: Work) -> None:
        if work not in self.scheduled:
            raise ImpossibleStepError(self, step, "that was never scheduled")

    # What the events change.

    @applies(ApplicationSubmitted)
    def _submitted(self, event: ApplicationSubmitted) -> None:
        self.amount = event.amount

    @applies(ApplicationPartlySubmitted)
    def _partly_submitted(self, _: ApplicationPartlySubmitted) -> None:
        self.status = Status.PARTLY_SUBMITTED

    @applies(ApplicationPreaccepted)
    def _preaccepted(self, _: ApplicationPreaccepted) -> None:
        self.status = Status.PREACCEPTED

    @applies(ApplicationAccepted)
    def _accepted(self, _: ApplicationAccepted) -> None:
        self.status = Status.ACCEPTED

    @applies(ApplicationFinalized)
    def _finalized(self, _: ApplicationFinalized) -> None:
        self.status = Status.FINALIZED

    @applies(ApplicationApproved)
    def _approved(self, _: ApplicationApproved) -> None:
        self.status = Status.APPROVED
        self.approval |= {ApprovalStep.APPROVED}

    @applies(ApplicationRegistered)
    def _registered(self, _: ApplicationRegistered) -> None:
        self.status = Status.APPROVED
        self.approval |= {ApprovalStep.REGISTERED}

    @applies(ApplicationActivated)
    def _activated(self, _: ApplicationActivated) -> None:
        self.status = Status.APPROVED
        self.approval |= {ApprovalStep.ACTIVATED}

    @applies(ApplicationDeclined)
    def _declined(self, _: ApplicationDeclined) -> None:
        self.status = Status.DECLINED

    @applies(ApplicationCancelled)
    def _cancelled(self, _: ApplicationCancelled) -> None:
        self.status = Status.CANCELLED

    @applies(OfferSelected)
    def _offer_selected(self, _: OfferSelected) -> None:
        self.offer_selected = True

    @applies(OfferCreated)
    def _offer_created(self, _: OfferCreated) -> None:
        self.offer_selected = False
        self.offer = OfferStatus.CREATED
        self.offers_made += 1

    @applies(OfferSent)
    def _offer_sent(self, _: OfferSent) -> None:
        self.offer = OfferStatus.SENT

    @applies(OfferSentBack)
    def _offer_sent_back(self, _: OfferSentBack) -> None:
        self.offer = OfferStatus.SENT_BACK

    @applies(OfferAccepted)
    def _offer_accepted(self, _: OfferAccepted) -> None:
        self.offer = OfferStatus.ACCEPTED

    @applies(OfferDeclined)
    def _offer_declined(self, _: OfferDeclined) -> None:
        self.offer = OfferStatus.DECLINED

    @applies(OfferCancelled)
    def _offer_cancelled(self, _: OfferCancelled) -> None:
        self.offer = OfferStatus.CANCELLED

    @applies(WorkScheduled)
    def _work_scheduled(self, event: WorkScheduled) -> None:
        self.scheduled |= {event.work}

    @applies(WorkStarted, WorkTakenOver)
    def _work_started(self, event: WorkStarted | WorkTakenOver) -> None:
        self.in_progress = event.work
        self.employee = event.employee or self.employee

    @applies(WorkCompleted)
    def _work_completed(self, _: WorkCompleted) -> None:
        self.in_progress = None

    @applies(WorkClosed)
    def _work_closed(self, _: WorkClosed) -> None:
        pass


# -- the log -----------------------------------------------------------------------------------------------------------

APPLICATIONS: Final = 13_087
EVENTS: Final = 262_200

PUBLISHED: Final[dict[str, int]] = {
    "A_SUBMITTED": 13_087,
    "A_DECLINED": 7_635,
    "A_CANCELLED": 2_807,
    "A_APPROVED": 2_246,
    "O_SENT": 7_030,
    "O_CANCELLED": 3_655,
    "O_ACCEPTED": 2_243,
    "O_DECLINED": 802,
}
"""What the whole log is known to hold."""

_STEPS: Final[dict[str, Callable[[LoanApplication, datetime], None]]] = {
    "A_PARTLYSUBMITTED": LoanApplication.partly_submit,
    "A_PREACCEPTED": LoanApplication.preaccept,
    "A_ACCEPTED": LoanApplication.accept,
    "A_FINALIZED": LoanApplication.finalize,
    "A_APPROVED": LoanApplication.approve,
    "A_REGISTERED": LoanApplication.register,
    "A_ACTIVATED": LoanApplication.activate,
    "A_DECLINED": LoanApplication.decline,
    "A_CANCELLED": LoanApplication.cancel,
    "O_SELECTED": LoanApplication.select_offer,
    "O_CREATED": LoanApplication.create_offer,
    "O_SENT": LoanApplication.send_offer,
    "O_SENT_BACK": LoanApplication.receive_offer,
    "O_ACCEPTED": LoanApplication.accept_offer,
    "O_DECLINED": LoanApplication.decline_offer,
    "O_CANCELLED": LoanApplication.cancel_offer,
}
_WORK: Final = {
    "W_Afhandelen leads": Work.HANDLE_LEAD,
    "W_Completeren aanvraag": Work.COMPLETE_APPLICATION,
    "W_Nabellen offertes": Work.FOLLOW_UP_OFFER,
    "W_Valideren aanvraag": Work.VALIDATE_APPLICATION,
    "W_Nabellen incomplete dossiers": Work.FOLLOW_UP_MISSING_DOCUMENTS,
    "W_Beoordelen fraude": Work.ASSESS_FRAUD,
    "W_Wijzigen contractgegevens": Work.CHANGE_CONTRACT_DETAILS,
}
_EVENT_TYPES: Final[dict[str, type[DomainEvent]]] = {
    "A_SUBMITTED": ApplicationSubmitted,
    "A_DECLINED": ApplicationDeclined,
    "A_CANCELLED": ApplicationCancelled,
    "A_APPROVED": ApplicationApproved,
    "O_SENT": OfferSent,
    "O_CANCELLED": OfferCancelled,
    "O_ACCEPTED": OfferAccepted,
    "O_DECLINED": OfferDeclined,
}


class Line(NamedTuple):
    """One line of the log."""

    application_id: str
    amount: str
    registered_at: str
    activity: str
    transition: str
    timestamp: str
    resource: str


def read_log(path: Path) -> Iterator[list[Line]]:
    """Read the log, one application's lines at a time; plain or compressed."""
    open_log = gzip.open if path.suffix == ".gz" else open
    with open_log(path, "rt", encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        next(rows)
        for _, lines in groupby(map(Line._make, rows), key=itemgetter(0)):
            yield list(lines)


def application_of(lines: Sequence[Line]) -> LoanApplication:
    """Let an application take the steps that the log has for it.

    Raises:
        ImpossibleStepError: One of them cannot follow the ones before.
        ValueError: The log has an activity that is not known.
    """
    first = lines[0]
    if first.activity != "A_SUBMITTED":
        raise ValueError(f"application {first.application_id} begins with {first.activity}")
    with _by(first.resource):
        application = LoanApplication.submit(
            first.application_id,
            int(first.amount),
            datetime.fromisoformat(first.registered_at),
            at=datetime.fromisoformat(first.timestamp),
        )
    for resource, following in groupby(lines[1:], key=itemgetter(6)):
        with _by(resource):
            for line in following:
                _take_step(application, line)
    return application


def _take_step(application: LoanApplication, line: Line) -> None:
    at = datetime.fromisoformat(line.timestamp)
    step = _STEPS.get(line.activity)
    if step is not None:
        step(application, at)
        return
    work = _WORK.get(line.activity)
    if work is None:
        raise ValueError(f"application {line.application_id} has an unknown activity {line.activity!r}")
    if line.transition == "SCHEDULE":
        application.schedule_work(work, at)
    elif line.transition == "START":
        application.start_work(work, int(line.resource) if line.resource else None, at)
    else:
        application.complete_work(work, at)


@contextmanager
def _by(resource: str) -> Iterator[None]:
    """Note who did what happens here; the log does not always know."""
    if resource:
        with event_context(resource=resource):
            yield
    else:
        yield


# -- the import --------------------------------------------------------------------------------------------------------


class Imported(NamedTuple):
    """What was imported."""

    applications: int
    events: int
    expected: Counter[str]
    refused: list[str]
    example: str
    seconds: float


def import_log(engine: Engine, logged: Iterable[list[Line]], advance: Callable[[], None]) -> Imported:
    """Write each application in a transaction of its own."""
    started = time.perf_counter()
    applications = events = 0
    expected: Counter[str] = Counter()
    refused: list[str] = []
    example, longest = "", 0
    for lines in logged:
        try:
            application = application_of(lines)
        except ImpossibleStepError as error:
            refused.append(str(error))
            continue
        with Session(engine) as session:
            session.add(application)
            session.commit()
        applications += 1
        events += len(lines)
        expected.update(line.activity for line in lines)
        # A story worth showing that fits on a screen.
        if longest < len(lines) < 40 and any(line.activity == "A_APPROVED" for line in lines):
            example, longest = lines[0].application_id, len(lines)
        example = example or lines[0].application_id
        advance()
    return Imported(applications, events, expected, refused, example, time.perf_counter() - started)


def check_figures(session: Session, imported: Imported, *, whole: bool) -> list[tuple[str, int, int]]:
    """Compare the database with the published figures, or for a part of the log with what was read from the file."""
    counts = session.execute(select(EventRecord.event_type, func.count()).group_by(EventRecord.event_type))
    types = {name: count for name, count in counts}  # noqa: C416 - rows are no pairs to a type checker
    aggregates = select(LoanApplication.id).subquery()
    found_applications = session.scalar(select(func.count()).select_from(aggregates)) or 0
    figures = [
        ("applications", APPLICATIONS if whole else imported.applications, found_applications),
        ("events", EVENTS if whole else imported.events, sum(types.values())),
    ]
    for activity, published in PUBLISHED.items():
        found = types.get(_EVENT_TYPES[activity].__event_type__, 0)
        figures.append((activity, published if whole else imported.expected[activity], found))
    return figures


# -- what it shows -----------------------------------------------------------------------------------------------------


def show_figures(console: Console, figures: Sequence[tuple[str, int, int]], *, whole: bool) -> bool:
    """Print the comparison; tell whether all figures agree."""
    table = Table(title="The figures, as the database has them", title_justify="left")
    table.add_column("figure")
    table.add_column("published" if whole else "in the file", justify="right")
    table.add_column("in the database", justify="right")
    table.add_column("")
    for name, expected, found in figures:
        table.add_row(name, f"{expected:,}", f"{found:,}", "[green]agrees[/]" if expected == found else "[bold red]DIFFERS[/]")
    console.print(table)
    return all(expected == found for _, expected, found in figures)


def show_trail(console: Console, session: Session, application_id: str) -> tuple[datetime, datetime]:
    """Print everything that happened to one application; give the times of the first and the last event."""
    trail = EventSourcedRepository(session, LoanApplication).history(application_id).all()
    table = Table(title=f"Application {application_id}, step by step", title_justify="left")
    table.add_column("", justify="right", style="dim")
    table.add_column("when (UTC)")
    table.add_column("what")
    table.add_column("by")
    for each in trail:
        details = each.event.model_dump(mode="json", include={"amount", "work"})
        what = f"{type(each.event).__name__} [dim]{', '.join(map(str, details.values()))}[/]"
        resource = each.metadata.get("resource")
        who = "[dim]unknown[/]" if resource is None else "the system" if resource == "112" else f"employee {resource}"
        table.add_row(str(each.version), f"{each.occurred_at:%Y-%m-%d %H:%M:%S}", what, who)
    console.print(table)
    return trail[0].occurred_at, trail[-1].occurred_at


def show_state(console: Console, then: LoanApplication, now: LoanApplication, middle: datetime) -> None:
    """Print an application as it stood once, alongside what became of it."""
    table = Table(title=f"The same application on {middle:%Y-%m-%d at %H:%M} UTC, and at the end", title_justify="left")
    for heading in ("", "then", "at the end"):
        table.add_column(heading)
    for label, show in _STATE.items():
        table.add_row(label, show(then), show(now))
    console.print(table)


_STATE: Final[dict[str, Callable[[LoanApplication], str]]] = {
    "version": lambda each: str(each.version),
    "amount": lambda each: f"{each.amount:,} euros",
    "status": lambda each: each.status,
    "outcome": lambda each: each.outcome or "open",
    "approval": lambda each: ", ".join(sorted(each.approval)) or "-",
    "offers made": lambda each: str(each.offers_made),
    "latest offer": lambda each: each.offer or "-",
    "work in progress": lambda each: each.in_progress or "-",
    "last employee": lambda each: str(each.employee or "-"),
}


def run(path: Path, url: str | None, applications: int | None, console: Console) -> bool:
    """Import, check and show; tell whether every step was possible and every figure agrees."""
    with example_engine(url, "loan_applications_example") as engine:
        Base.metadata.create_all(engine)
        whole = applications is None
        console.print(f"Importing [bold]{path.name}[/] into PostgreSQL {server_version(engine)}, a transaction an application.")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, refresh_per_second=4) as progress:
            task = progress.add_task("applications", total=applications or APPLICATIONS)
            imported = import_log(engine, islice(read_log(path), applications), lambda: progress.advance(task))
        console.print(
            f"{imported.applications:,} applications, {imported.events:,} events in {imported.seconds:.1f} s: "
            f"{imported.applications / imported.seconds:,.0f} commits, {imported.events / imported.seconds:,.0f} events a second."
        )
        if imported.refused:
            console.print(f"[bold red]{len(imported.refused)} applications refused a step:[/]")
            for message in imported.refused[:20]:
                console.print(f"  {message}")
        else:
            console.print("Every step was possible: the rules of LoanApplication refused none.")
        if not imported.applications:
            return False
        with Session(engine) as session:
            right = show_figures(console, check_figures(session, imported, whole=whole), whole=whole)
            first, last = show_trail(console, session, imported.example)
            middle = first + (last - first) / 2
            then = EventSourcedRepository(session, LoanApplication).load_at_time(imported.example, middle)
            show_state(console, then, session.get_one(LoanApplication, imported.example), middle)
    console.print("[green]All figures agree.[/]" if right else "[bold red]Some figures differ.[/]")
    return right and not imported.refused


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line; 0 if all is well."""
    parser = argparse.ArgumentParser(description="Import the loan applications of the BPI Challenge 2012 and check the result.")
    parser.add_argument("path", type=Path, help="the log as CSV, plain or compressed with gzip")
    parser.add_argument("--url", help="a PostgreSQL database to use instead of an embedded server, in a schema of its own")
    parser.add_argument("--applications", type=int, help="import only so many, and compare with what the file says of them")
    options = parser.parse_args(arguments)
    return 0 if run(options.path, options.url, options.applications, Console()) else 1


if __name__ == "__main__":
    sys.exit(main())
