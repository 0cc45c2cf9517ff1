"""The status tells the truth: who does not follow, and whose rows are not right, is in a state with a name and a line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import (
    DomainEvent,
    EventReplayer,
    ReadModel,
    ReadModelChangedError,
    ReadModelManager,
    RecordedEvent,
    RetryPolicy,
    Worker,
    handles,
    map_from_event,
)
from sa_eventsource.consumers import Follower
from sa_eventsource.projections import in_short, take_step
from sa_eventsource.read_models import count, definition_of, sum_
from tests.committing import changing_events, commit_events
from tests.processes import ROOT, finish
from tests.projections import bank
from tests.shop import AnyOrder, OrderCancelled, OrderPlaced

CANCELLED = OrderCancelled(reason="another shop was cheaper")


class Shop:
    """One release of an application."""

    def __init__(self, engine: Engine, declare: Callable[[type[Any]], type[Any]] | None = None) -> None:
        """Declare a base, an aggregate, and what *declare* makes of the base."""

        class Base(DeclarativeBase):
            pass

        class Order(AnyOrder, Base):
            __aggregate_type__ = "states.Order"

        self.engine, self.base, self.order = engine, Base, Order
        self.model: Any = None if declare is None else declare(Base)
        Base.metadata.create_all(engine)
        self.manager = ReadModelManager(engine, Base)

    def place(self, *order_ids: str, customer: str = "ann") -> None:
        """Commit orders, each in a transaction of its own."""
        for order_id in order_ids:
            with Session(self.engine) as session:
                session.add(self.order.place(customer, order_id=order_id))
                session.commit()

    def cancel(self, order_id: str) -> None:
        """Commit another event of an order."""
        commit_events(self.engine, self.order, order_id, CANCELLED)

    @property
    def state(self) -> str:
        """The model's state; every state but the good ones has a line in the list of problems, and those have none."""
        (status,) = self.manager.status(self.model)
        problems = [each for each in self.manager.problems() if each.startswith(f"{status.name} is {status.state}")]
        assert bool(problems) == (status.state not in ("running", "new", "retrying"))
        return status.state

    def rebuild(self) -> None:
        """Rebuild the model."""
        EventReplayer(self.engine, self.base).rebuild(self.model)


def per_customer(consistency: Literal["strong", "eventual"], **fields: Any) -> Callable[[type[Any]], type[Any]]:
    """Declare a model with a row for each customer, who has how many orders."""

    def declare(base: type[Any]) -> type[Any]:
        class Customers(ReadModel, base):  # type: ignore[misc]
            __projection_name__ = "customers"
            __consistency__ = consistency
            __annotations__ = {
                "customer_id": Mapped[str],
                "orders": Mapped[int],
                **dict.fromkeys(fields, Mapped[Decimal]),
            }
            customer_id = map_from_event(OrderPlaced, key=True)
            orders = map_from_event(OrderPlaced, reduce=count())
            locals().update(fields)

        return Customers

    return declare


STRONG, EVENTUAL = per_customer("strong"), per_customer("eventual")


def orders(shop: Shop, customer: str = "ann") -> int:
    with Session(shop.engine) as session:
        row = session.get(shop.model, customer)
        return 0 if row is None else int(row.orders)


def test_a_strong_model_that_is_there_from_the_first_event_on_has_all(engine: Engine) -> None:
    shop = Shop(engine, STRONG)
    assert shop.state == "running"
    shop.place("1", "2")
    assert (shop.state, orders(shop)) == ("running", 2)


def test_a_strong_model_that_comes_to_a_log_with_events_is_unbuilt_until_it_is_rebuilt(engine: Engine) -> None:
    Shop(engine).place("1", "2")
    shop = Shop(engine, STRONG)
    assert shop.state == "unbuilt"
    shop.place("3")
    assert (shop.state, orders(shop)) == ("unbuilt", 1)
    shop.rebuild()
    assert (shop.state, orders(shop)) == ("running", 3)
    shop.place("4")
    assert (shop.state, orders(shop)) == ("running", 4)


def test_events_of_other_kinds_are_no_reason_to_rebuild_a_strong_model(engine: Engine) -> None:
    def cancellations(base: type[Any]) -> type[Any]:
        class Cancellations(ReadModel, base):  # type: ignore[misc]
            __consistency__ = "strong"
            number: Mapped[int] = map_from_event(OrderCancelled, reduce=count())

        return Cancellations

    Shop(engine).place("1")
    shop = Shop(engine, cancellations)
    assert shop.state == "running"
    shop.cancel("1")
    assert shop.state == "running"


def test_a_model_that_was_rolled_back_with_its_first_event_has_not_begun(engine: Engine) -> None:
    shop = Shop(engine, STRONG)
    with Session(engine) as session:
        session.add(shop.order.place("ann", order_id="1"))
        session.flush()
        session.rollback()
    Shop(engine).place("2")
    assert shop.state == "unbuilt"


def test_several_events_in_one_flush_and_several_flushes_in_one_transaction_are_the_first(engine: Engine) -> None:
    shop = Shop(engine, STRONG)
    with Session(engine) as session:
        for number in range(3):
            session.add(shop.order.place("ann", order_id=f"{number}"))
        session.flush()
        session.add(shop.order.place("ann", order_id="late"))
        session.commit()
    assert (shop.state, orders(shop)) == ("running", 4)


@pytest.mark.parametrize("first", [OrderPlaced(customer_id="ann", total=Decimal(1)), CANCELLED], ids=["placed", "cancelled"])
def test_models_of_every_kind_begin_with_their_first_event(engine: Engine, first: DomainEvent) -> None:
    """Also where that event removes a row, or has a handler."""

    def declare(base: type[Any]) -> type[Any]:
        class Removed(ReadModel, base):  # type: ignore[misc]
            __tablename__ = "removed"
            __consistency__ = "strong"
            __removed_by__ = (OrderCancelled,)
            customer_id: Mapped[str] = map_from_event(OrderPlaced)

        class Handled(ReadModel, base):  # type: ignore[misc]
            __tablename__ = "handled"
            __consistency__ = "strong"
            id: Mapped[str] = mapped_column(primary_key=True)

            @classmethod
            @handles(OrderPlaced)
            def _placed(cls, event: RecordedEvent[OrderPlaced], session: Session) -> None:
                session.add(cls(id=event.aggregate_id))  # pyright: ignore[reportCallIssue]

            @classmethod
            @handles(OrderCancelled)
            def _cancelled(cls, event: RecordedEvent[OrderCancelled], session: Session) -> None:
                pass

        return Removed

    shop = Shop(engine, declare)
    commit_events(engine, shop.order, "1", first)
    assert {each.state for each in shop.manager.status()} == {"running"}
    assert Shop(engine, declare).state == "running"


def test_transactions_that_write_the_first_events_do_not_wait_for_each_other(postgres_engine: Engine) -> None:
    shop = Shop(postgres_engine, STRONG)
    with Session(postgres_engine) as one, Session(postgres_engine) as other:
        other.execute(text("SET LOCAL lock_timeout = '2s'"))
        for number, session in enumerate((one, other)):
            session.add(shop.order.place(f"customer {number}", order_id=str(number)))
            session.flush()
        one.commit()
        other.commit()
    assert (shop.state, orders(shop, "customer 0"), orders(shop, "customer 1")) == ("running", 1, 1)


def test_rows_made_by_hand_do_not_count_as_a_beginning(postgres_engine: Engine) -> None:
    """What made a row of the checkpoints without a declaration, such as the rebuild of single rows, proves nothing."""
    shop = Shop(postgres_engine, STRONG)
    EventReplayer(postgres_engine, shop.base).rebuild_rows(shop.model, ["ann"])
    assert shop.state == "running"
    shop.place("1")
    assert shop.state == "running"


def test_a_strong_model_that_gained_a_field_is_outdated(engine: Engine) -> None:
    Shop(engine, STRONG).place("1")
    shop = Shop(engine, per_customer("strong", total=map_from_event(OrderPlaced, reduce=sum_())))
    assert shop.state == "outdated"
    shop.place("2")
    assert shop.state == "outdated"
    shop.rebuild()
    with Session(engine) as session:
        assert session.get_one(shop.model, "ann").total == Decimal("86.60")
    assert shop.state == "running"


def test_an_eventual_model_that_becomes_strong_is_outdated(engine: Engine) -> None:
    shop = Shop(engine, EVENTUAL)
    shop.place("1")
    shop.manager.catch_up()
    shop.place("2")
    shop = Shop(engine, STRONG)
    shop.place("3")
    assert (shop.state, orders(shop)) == ("outdated", 2)
    shop.rebuild()
    assert (shop.state, orders(shop)) == ("running", 3)


def test_a_strong_model_that_becomes_eventual_counts_nothing_twice(engine: Engine) -> None:
    Shop(engine, STRONG).place("1", "2")
    shop = Shop(engine, EVENTUAL)
    assert shop.state == "outdated"
    with pytest.raises(ReadModelChangedError, match="rebuild"):
        shop.manager.catch_up()
    Worker(engine, shop.base).run_once()
    assert orders(shop) == 2
    shop.rebuild()
    assert (shop.state, orders(shop)) == ("running", 2)


def test_a_checkpoint_of_another_cluster_is_a_problem(postgres_engine: Engine) -> None:
    shop = Shop(postgres_engine, EVENTUAL)
    shop.place("1")
    shop.manager.catch_up()
    with postgres_engine.begin() as connection:
        connection.execute(text("UPDATE projection_positions SET cluster = '4711', snapshot_cursor = '5:5:'"))
    shop.place("2")
    Worker(postgres_engine, shop.base).run_once()
    assert shop.state == "moved"
    assert shop.manager.status()[0].lag_events > 0


def test_a_log_with_transaction_ids_from_the_future_is_a_problem_before_anybody_follows(postgres_engine: Engine) -> None:
    shop = Shop(postgres_engine, EVENTUAL)
    shop.place("1")
    with changing_events(postgres_engine, shop.base) as connection:
        connection.execute(text("UPDATE events SET transaction_id = '999999999999'"))
    assert shop.state == "moved"


@pytest.mark.parametrize("damage", ["garbage", "", "1:2", "a:b:c"])
def test_a_checkpoint_that_cannot_be_read_is_a_problem(postgres_engine: Engine, damage: str) -> None:
    shop = Shop(postgres_engine, EVENTUAL)
    shop.place("1", "2")
    shop.manager.catch_up()
    with postgres_engine.begin() as connection:
        connection.execute(text("UPDATE projection_positions SET snapshot_cursor = :damage"), {"damage": damage})
    assert shop.state == "unreadable"
    assert shop.manager.status()[0].lag_events == 2
    shop.rebuild()
    assert (shop.state, orders(shop)) == ("running", 2)


@pytest.mark.parametrize("has_begun", [False, True])
def test_a_long_lag_is_counted_up_to_a_limit_and_says_that_there_is_more(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, has_begun: bool
) -> None:
    shop = Shop(engine, EVENTUAL)
    if has_begun:
        shop.place("0")
        shop.manager.catch_up()
    monkeypatch.setattr("sa_eventsource.projections.status.COUNTED", 3)
    shop.place("1", "2", "3")
    (whole,) = shop.manager.status()
    assert (whole.lag_events, whole.lag_is_whole, whole.lag_in_words) == (3, True, "3 events")
    shop.place("4")
    (status,) = shop.manager.status()
    assert (status.lag_events, status.lag_is_whole, status.lag_in_words) == (3, False, "more than 3 events")
    assert 0 < whole.lag_seconds <= status.lag_seconds  # of the same event
    (problem,) = shop.manager.problems(max_lag_seconds=0)
    assert problem.endswith("s behind (more than 3 events)")


def test_the_rest_of_a_backlog_and_what_came_since_are_counted_together(
    postgres_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(postgres_engine, EVENTUAL)
    shop.place("1", "2", "3")
    with Session(postgres_engine) as session:
        take_step(session, Follower(definition_of(shop.model), "customers"), 1)
    shop.place("4", "5")
    monkeypatch.setattr("sa_eventsource.projections.status.COUNTED", 4)
    assert [(each.lag_events, each.lag_is_whole) for each in shop.manager.status()] == [(4, True)]
    monkeypatch.setattr("sa_eventsource.projections.status.COUNTED", 3)
    assert [(each.lag_events, each.lag_is_whole) for each in shop.manager.status()] == [(3, False)]


def test_the_position_stays_where_it_was_while_others_write(postgres_engine: Engine) -> None:
    shop = Shop(postgres_engine, EVENTUAL)
    shop.place("1", "2", "3")
    worker = Worker(postgres_engine, shop.base)
    worker.run_once()
    before = shop.manager.status()[0].position
    with postgres_engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("CREATE TABLE noise (number int)"))
        connection.exec_driver_sql(
            "DO $$ BEGIN FOR i IN 1..1100 LOOP "
            "BEGIN INSERT INTO noise VALUES (1); EXCEPTION WHEN others THEN NULL; END; END LOOP; END $$"
        )
    worker.run_once()
    assert (before, shop.manager.status()[0].position) == (3, 3)


def test_a_late_commit_does_not_set_the_position_back(postgres_engine: Engine) -> None:
    shop = Shop(postgres_engine, EVENTUAL)
    with Session(postgres_engine) as late:
        late.add(shop.order.place("ann", order_id="late"))
        late.flush()
        shop.place("2", "3")
        Worker(postgres_engine, shop.base).run_once()
        late.commit()
    Worker(postgres_engine, shop.base).run_once()
    (status,) = shop.manager.status()
    assert (status.position, status.lag_events, orders(shop)) == (3, 0, 3)


_DIGESTS = """
import enum, json
from decimal import Decimal
from typing import Annotated, Any
from pydantic import AfterValidator, BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped
from sa_eventsource import AggregateRoot, DomainEvent, ReadModel, map_from_event

class Sort(enum.Enum):
    PLAIN = "plain"

Amount = Annotated[Decimal, AfterValidator(lambda value: value)]

class Line(BaseModel):
    amount: Amount = Decimal(1)
    tags: frozenset[str] = frozenset({"alpha", "beta", "gamma", "delta"})

class Paid(DomainEvent):
    amounts: list[Amount] = []
    prices: dict[str, Amount] = {}
    flags: frozenset[str] = frozenset({"alpha", "beta", "gamma", "delta"})
    line: Line = Line()
    sort: Sort = Sort.PLAIN

class Base(DeclarativeBase):
    pass

class Account(AggregateRoot[str], Base):
    __ignored_events__ = (Paid,)

types = {"amounts": list[Amount], "prices": dict[str, Any], "flags": Any, "line": Any, "sort": Sort}
found = {}
for name, annotation in types.items():
    model = type(f"Model{name}", (ReadModel, Base), {
        "__module__": __name__, "__annotations__": {"id": Mapped[str], name: Mapped[annotation]}, name: map_from_event(Paid),
    })
    found[name] = model.__read_model_definition__.fingerprint
assert len(set(found.values())) == len(types)
print(json.dumps(found))
"""


def test_a_declaration_has_one_digest_in_all_processes(tmp_path: Path) -> None:
    script = tmp_path / "digests.py"
    script.write_text(_DIGESTS)
    digests = []
    for seed in ("1", "2", "3"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        done = finish([sys.executable, script], env=environment, stdout=subprocess.PIPE)
        assert done.returncode == 0, done.stderr
        digests.append(json.loads(done.stdout))
    assert digests[0] == digests[1] == digests[2]


def declared(**options: Any) -> str:
    """Digest a model like the others, except for what *options* say."""

    class Base(DeclarativeBase):
        pass

    fields: dict[str, Any] = {
        "customer_id": map_from_event(OrderPlaced, key=True),
        "orders": map_from_event(OrderPlaced, reduce=count()),
    }
    annotations = {"customer_id": Mapped[str], "orders": Mapped[Decimal]}
    namespace = {"__module__": __name__, "__projection_name__": "digested", "__annotations__": annotations, **fields, **options}
    found: str = type("Digested", (ReadModel, Base), namespace).__read_model_definition__.fingerprint  # type: ignore[attr-defined]
    return found


def test_what_shapes_rows_changes_the_digest() -> None:
    variants: list[dict[str, Any]] = [
        {},
        {"__consistency__": "strong"},
        {"__shards__": 2},
        {"__version__": 2},
        {"__tablename__": "digested"},
        {"orders": map_from_event(OrderPlaced, reduce=sum_("total"))},
        {"orders": map_from_event({OrderPlaced: Decimal(1)})},
        {"orders": map_from_event({OrderPlaced: Decimal(2)})},
        {"orders": map_from_event(OrderPlaced, source="total")},
    ]
    assert len({declared(**each) for each in variants}) == len(variants)
    assert declared() == declared()


def test_an_enumeration_counts_by_its_values_wherever_it_is_declared() -> None:
    def digest(enumeration: type[Enum]) -> str:
        fields = {"state": map_from_event({OrderPlaced: next(iter(enumeration))})}
        return declared(**fields, __annotations__={"customer_id": Mapped[str], "orders": Mapped[int], "state": Mapped[enumeration]})  # type: ignore[valid-type]

    class State(Enum):
        NEW = "new"

    class Moved(Enum):
        BEGUN = "new"

    class Changed(Enum):
        NEW = "begun"

    assert digest(State) == digest(Moved) != digest(Changed)


def test_the_error_is_told_in_the_line_that_says_it(postgres_engine: Engine) -> None:
    """PostgreSQL adds an excerpt of the statement, and a mark below it."""
    bank.Base.metadata.create_all(postgres_engine)
    with postgres_engine.begin() as connection:
        connection.execute(text("ALTER TABLE projections ADD CHECK (projection_name <> 'balance')"))
    bank.deposit(postgres_engine, "a", 1)
    Worker(postgres_engine, bank.Base, only=["balance"], retries=RetryPolicy(attempts=1)).run_once()
    (problem,) = ReadModelManager(postgres_engine, bank.Base).problems()
    assert problem.startswith("balance is stopped: ReadModelError: read model 'balance' cannot take")
    assert "violates check constraint" in problem


def test_an_error_in_short() -> None:
    assert in_short("Traceback ...\n  File ...\nsome.package.PlainError: simple: it is\n") == "PlainError: simple: it is"
    assert in_short("builtins") == "builtins"
    assert in_short("no traceback. At all: none") == "no traceback. At all: none"
    assert in_short("") == ""


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1), (3, 4)])
def test_a_model_that_is_split_otherwise_is_outdated_and_takes_nothing_twice(
    postgres_engine: Engine, before: int, after: int
) -> None:
    shop = Shop(postgres_engine, EVENTUAL)
    definition = shop.model.__read_model_definition__
    definition.shards = before
    shop.place("1", "2", "3")
    shop.manager.catch_up()
    definition.shards = after
    shop.place("4")
    with pytest.raises(ReadModelChangedError):
        shop.manager.catch_up()
    assert Worker(postgres_engine, shop.base).run_once() == 0
    assert (shop.state, orders(shop)) == ("outdated", 3)
    shop.rebuild()
    assert (shop.state, orders(shop)) == ("running", 4)


class TestUndeclared:
    """Checkpoints under names that the code does not declare."""

    @staticmethod
    def keep(engine: Engine, *kept: tuple[str, str]) -> None:
        """Keep checkpoints under other names, advanced so long ago."""
        with engine.begin() as connection:
            for name, ago in kept:
                connection.execute(
                    text(
                        "INSERT INTO projection_positions (projection_name, last_processed_position, last_processed_at, status) "
                        f"VALUES ('{name}', 1, now() - interval '{ago}', 'running')"
                    )
                )

    def test_they_are_a_problem_when_they_have_stood_still_for_a_day(self, postgres_engine: Engine) -> None:
        bank.Base.metadata.create_all(postgres_engine)
        manager = ReadModelManager(postgres_engine, bank.Base)
        assert (manager.undeclared(), manager.problems()) == ([], [])
        self.keep(postgres_engine, ("former", "25 hours"), ("former@2", "1 hour"), ("dealt#1", "3 days"), ("dealt#2", "1 hour"))
        assert [(each.name, each.version, each.is_problem) for each in manager.undeclared()] == [
            ("dealt", 1, False),
            ("former", 1, True),
            ("former", 2, False),
        ]
        (problem,) = manager.problems()
        assert problem.startswith("former has a checkpoint, last advanced on ")
        assert problem.endswith("retire it (sa-eventsource retire MODULE:BASE former)")
        EventReplayer(postgres_engine, bank.Base).retire("former")
        assert manager.problems() == []

    def test_the_command_line_has_a_line_for_each(self, postgres_engine: Engine) -> None:
        bank.Base.metadata.create_all(postgres_engine)
        self.keep(postgres_engine, ("former@2", "1 hour"))
        url = postgres_engine.url.render_as_string(hide_password=False)
        command = [sys.executable, "-m", "sa_eventsource.cli", "status", "tests.projections.bank:Base", "--url", url]
        shown = finish(command, cwd=ROOT, env={**os.environ, "COLUMNS": "300"})
        said = " ".join(shown.stdout.split())
        assert "former version 2 has a checkpoint" in said
        assert "(sa-eventsource retire MODULE:BASE former 2)" in said
        as_json = json.loads(finish([*command, "--json"], cwd=ROOT).stdout)
        assert [(each["name"], each["version"]) for each in as_json["undeclared"]] == [("former", 2)]
        assert as_json["problems"] == []
