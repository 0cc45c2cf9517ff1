"""Every style of declarative base that SQLAlchemy supports takes aggregates, beside the application's own tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine, ForeignKey, Integer, MetaData, String, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import (
    DeclarativeBase,
    DeclarativeBaseNoMeta,
    DeclarativeMeta,
    Mapped,
    MappedAsDataclass,
    Session,
    declarative_base,
    mapped_column,
    registry,
)

from sa_eventsource import ConcurrencyError, DeclarationError, EventRecord
from tests.bank import AnyAccount, Opened
from tests.committing import commit_events

pytestmark = pytest.mark.slow_on_sqlite

if TYPE_CHECKING:
    from collections.abc import Callable


# Each function below makes one kind of base, an aggregate on it and an ordinary entity, and gives the two classes.


def _with_declarative_base() -> tuple[Any, Any]:
    class Base(DeclarativeBase):
        pass

    class Account(AnyAccount, Base):
        pass

    class Customer(Base):
        __tablename__ = "customers"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    return Account, Customer


def _with_legacy_function() -> tuple[Any, Any]:
    base: Any = declarative_base()

    class Account(AnyAccount, base):  # type: ignore[misc]
        pass

    class Customer(base):  # type: ignore[misc]
        __tablename__ = "customers"
        id = mapped_column(Integer, primary_key=True)
        name = mapped_column(String)

    return Account, Customer


def _with_registry_decorator() -> tuple[Any, Any]:
    mapper_registry = registry()

    @mapper_registry.mapped
    class Account(AnyAccount):
        metadata = mapper_registry.metadata

    @mapper_registry.mapped
    class Customer:
        __tablename__ = "customers"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    return Account, Customer


def _with_generated_base() -> tuple[Any, Any]:
    base: Any = registry().generate_base()

    class Account(AnyAccount, base):  # type: ignore[misc]
        pass

    class Customer(base):  # type: ignore[misc]
        __tablename__ = "customers"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    return Account, Customer


def _with_dataclasses() -> tuple[Any, Any]:
    class Base(MappedAsDataclass, DeclarativeBase):
        pass

    class Account(AnyAccount, Base):
        pass

    class Customer(Base):
        __tablename__ = "customers"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    return Account, Customer


def _with_dataclass_decorator() -> tuple[Any, Any]:
    mapper_registry = registry()

    @mapper_registry.mapped_as_dataclass
    class Account(AnyAccount):
        metadata = mapper_registry.metadata

    @mapper_registry.mapped_as_dataclass
    class Customer:
        __tablename__ = "customers"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    return Account, Customer


def _with_no_meta() -> tuple[Any, Any]:
    class Base(DeclarativeBaseNoMeta):
        pass

    class Account(AnyAccount, Base):
        pass

    class Customer(Base):
        __tablename__ = "customers"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    return Account, Customer


def _with_metaclass() -> tuple[Any, Any]:
    class Meta(DeclarativeMeta):
        def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any) -> None:
            if "__tablename__" not in namespace and name == "Customer":
                cls.__tablename__ = "customers"
            super().__init__(name, bases, namespace, **kwargs)

    base: Any = declarative_base(metaclass=Meta)

    class Account(AnyAccount, base):  # type: ignore[misc]
        pass

    class Customer(base):  # type: ignore[misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    return Account, Customer


def _with_naming_convention() -> tuple[Any, Any]:
    class Base(DeclarativeBase):
        metadata = MetaData(
            naming_convention={
                "pk": "pk_%(table_name)s",
                "uq": "uq_%(table_name)s_%(column_0_N_name)s",
                "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            }
        )

    class Account(AnyAccount, Base):
        pass

    class Customer(Base):
        __tablename__ = "customers"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    return Account, Customer


def _with_mixin_and_abstract_layer() -> tuple[Any, Any]:
    class Named:
        name: Mapped[str]

    class Base(DeclarativeBase):
        def describe(self) -> str:
            return type(self).__name__

    class Model(Base):
        __abstract__ = True

    class Account(AnyAccount, Model):
        pass

    class Customer(Named, Model):
        __tablename__ = "customers"
        id: Mapped[int] = mapped_column(primary_key=True)

    assert Account().describe() == "Account"
    return Account, Customer


STYLES = (
    _with_declarative_base,
    _with_legacy_function,
    _with_registry_decorator,
    _with_generated_base,
    _with_dataclasses,
    _with_dataclass_decorator,
    _with_no_meta,
    _with_metaclass,
    _with_naming_convention,
    _with_mixin_and_abstract_layer,
)


@pytest.mark.parametrize("make", STYLES, ids=lambda make: make.__name__.removeprefix("_with_"))
class TestEveryStyle:
    """What an application does first, on each kind of base."""

    def test_saves_and_loads_beside_own_tables(self, make: Callable[[], tuple[Any, Any]], engine: Engine) -> None:
        """Events and an entity's row are committed together, and read back."""
        account_class, customer_class = make()
        account_class.metadata.create_all(engine)
        with Session(engine) as session:
            account = account_class()
            account.apply_event(Opened(owner="Ann"))
            account.deposit(40)
            session.add_all([account, customer_class(id=1, name="Ann")])
            session.commit()
            account_id = account.id
            assert (account.owner, account.balance, account.version) == ("Ann", 40, 2)
            account.deposit(2)
            session.commit()
        with Session(engine) as session:
            account = session.get_one(account_class, account_id)
            assert (account.owner, account.balance, account.version) == ("Ann", 42, 3)
            assert session.scalars(select(account_class).where(account_class.version == 3)).all() == [account]
            assert session.get_one(customer_class, 1).name == "Ann"

    def test_rolls_both_back(self, make: Callable[[], tuple[Any, Any]], engine: Engine) -> None:
        """A failing row takes the events with it, and a rollback takes both."""
        account_class, customer_class = make()
        account_class.metadata.create_all(engine)
        with Session(engine) as session:
            session.add(customer_class(id=1, name="Ann"))
            session.commit()
        with Session(engine) as session:
            account = account_class()
            account.apply_event(Opened(owner="Bob"))
            session.add_all([account, customer_class(id=1, name="Bob")])
            with pytest.raises(IntegrityError):
                session.commit()
            session.rollback()
            account = account_class()
            account.apply_event(Opened(owner="Carol"))
            session.add_all([account, customer_class(id=2, name="Carol")])
            session.flush()
            session.rollback()
            assert session.scalar(select(func.count()).select_from(EventRecord)) == 0
            assert session.scalars(select(customer_class.name)).all() == ["Ann"]


def test_a_conflict_takes_the_row_with_it(engine: Engine) -> None:
    """An application's own change is not kept when the aggregate's write is refused."""
    account_class, customer_class = _with_declarative_base()
    account_class.metadata.create_all(engine)
    with Session(engine) as session:
        account = account_class(id="a-1")
        account.apply_event(Opened(owner="Ann"))
        session.add_all([account, customer_class(id=1, name="Ann")])
        session.commit()
    with Session(engine) as session:
        stale = session.get_one(account_class, "a-1")
    with Session(engine) as session:
        session.get_one(account_class, "a-1").deposit(5)
        session.commit()
    with Session(engine) as session:
        session.add(stale)
        stale.deposit(1)
        with session.no_autoflush:
            session.get_one(customer_class, 1).name = "Anna"
        with pytest.raises(ConcurrencyError):
            session.commit()
        session.rollback()
        assert session.get_one(customer_class, 1).name == "Ann"
        assert session.get_one(account_class, "a-1").balance == 5


def test_an_own_row_may_name_an_aggregate(engine: Engine) -> None:
    """An application's table refers to an aggregate by id, and joins it."""

    class Base(DeclarativeBase):
        pass

    class Account(AnyAccount, Base):
        pass

    class Customer(Base):
        __tablename__ = "customers"
        id: Mapped[int] = mapped_column(primary_key=True)
        account_id: Mapped[str]

    class Card(Base):
        __tablename__ = "cards"
        number: Mapped[str] = mapped_column(primary_key=True)
        customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))

    Base.metadata.create_all(engine)
    with Session(engine) as session:
        account = Account(id="a-7")
        account.apply_event(Opened(owner="Ann"))
        session.add_all([account, Customer(id=1, account_id=account.id)])
        session.flush()
        session.add(Card(number="4111", customer_id=1))
        session.commit()
        joined = select(Account).join(Customer, Customer.account_id == Account.id).join(Card).where(Card.number == "4111")
        assert session.scalars(joined).one() is account


def test_a_dataclass_base_leaves_identity_alone() -> None:
    """On a ``MappedAsDataclass`` base, aggregates compare and hash by identity, as every aggregate does."""
    account_class, _ = _with_dataclasses()
    one, other = account_class(id="a-1"), account_class(id="a-1")
    assert one != other
    assert len({one, other}) == 2
    assert repr(one) == "<Account 'a-1' v0>"


@pytest.mark.parametrize("dataclass", [False, True])
def test_what_the_application_writes_is_kept(*, dataclass: bool) -> None:
    """A mixin's or a class's own methods stay, whatever base there is."""

    class Base(*((MappedAsDataclass,) if dataclass else ()), DeclarativeBase):  # type: ignore[misc]
        pass

    class Readable:
        def __repr__(self) -> str:
            return "readable"

    class Account(Readable, AnyAccount, Base):
        def __init__(self, owner: str) -> None:
            super().__init__(id=f"account-of-{owner}")
            self.apply_event(Opened(owner=owner))

    account = Account("ann")
    assert (account.id, account.owner, account.version, repr(account)) == ("account-of-ann", "ann", 1, "readable")


def test_a_subclass_of_an_aggregate_has_streams_of_its_own(engine: Engine) -> None:
    """It inherits state and methods, and the two may use one id without meeting."""
    account_class, _ = _with_declarative_base()

    class SavingsAccount(account_class):  # type: ignore[misc, valid-type]
        pass

    account_class.metadata.create_all(engine)
    with Session(engine) as session:
        for klass, amount in ((account_class, 1), (SavingsAccount, 2)):
            session.add(account := klass(id="a-1"))
            account.deposit(amount)
        session.commit()
    with Session(engine) as session:
        assert session.get_one(account_class, "a-1").balance == 1
        assert session.get_one(SavingsAccount, "a-1").balance == 2
        assert [type(each) for each in session.scalars(select(account_class))] == [account_class]
        assert [type(each) for each in session.scalars(select(SavingsAccount))] == [SavingsAccount]


def test_a_dataclass_aggregate_keeps_the_constructor_of_aggregates() -> None:
    """On a ``MappedAsDataclass`` base an aggregate is no dataclass with state fields as arguments: events set them."""
    account_class, _ = _with_dataclasses()
    with pytest.raises(TypeError):
        account_class(owner="Ann")
    assert account_class(id="a-1").id == "a-1"


def test_a_naming_convention_without_indexes(engine: Engine) -> None:
    """A convention may say nothing of indexes if the application has none; the log's indexes need names all the same."""

    class Base(DeclarativeBase):
        metadata = MetaData(naming_convention={"pk": "pk_%(table_name)s"})

    class Account(AnyAccount, Base):
        pass

    Base.metadata.create_all(engine)
    commit_events(engine, Account, "a-1", Opened(owner="Ann"))


def test_without_a_base_the_error_says_how_to_declare_it(engine: Engine) -> None:
    """A class that was never mapped cannot be stored, and is told so."""

    class Account(AnyAccount):
        pass

    from sa_eventsource.repository import EventSourcedRepository

    with Session(engine) as session, pytest.raises(DeclarationError, match=r"class Account\(AggregateRoot, Base\)"):
        EventSourcedRepository(session, Account)
