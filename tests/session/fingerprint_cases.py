"""Releases of one aggregate that differ in one place, and what must not differ. Run as a program it prints their fingerprints."""

from __future__ import annotations

import json
import sys
import types
import warnings

from sa_eventsource.events import event_types, upcasting

SOURCE = """
import contextlib, enum, functools, operator, re, types
from collections import namedtuple
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID
from pydantic import AfterValidator, BaseModel, Field, PrivateAttr, field_validator, model_validator
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
import inner_rules
from sa_eventsource import AggregateRoot, DomainEvent, applies, upcast

class Naming(type(DeclarativeBase)):
    def named(cls): return 1
    def __len__(cls): return 1

class Base(DeclarativeBase, metaclass=Naming): ...

class Level(enum.Enum):
    LOW = "low"
    HIGH = "high"
    def rate(self): return 1

class Grade(enum.Enum):
    FIRST = 1
    @classmethod
    def _missing_(cls, value): return cls.FIRST

class Size(enum.IntFlag):
    SMALL = 1
    LARGE = 2

class Unit(NamedTuple):
    name: str = "kg"
    factor: int = 1

@dataclass(frozen=True)
class Limit:
    most: int = 5
    names: tuple = ("a",)
    def doubled(self): return self.most * 2

class Money(BaseModel):
    amount: Decimal = Decimal(1)
    currency: str = "EUR"
    tags: list[str] = Field(default_factory=lambda: ["x"])
    @field_validator("currency")
    @classmethod
    def known(cls, value):
        return value.upper()
    @model_validator(mode="after")
    def checked(self):
        return self
    def net(self): return self.amount

class Purse(BaseModel):
    money: Money = Money()
    purses: tuple["Purse", ...] = ()

PREFIXES = {"": 1, "a": 2}
PLANS = {"a": [("_planned", 1)], "b": [("_unplanned", 2)]}
GET = getattr
CALL = operator.methodcaller("_called")
READ = operator.attrgetter("limit.most", "_read")
RATES = {"a": 1, "b": Decimal(2)}
FACTOR = 3
KNOWN = frozenset({"x", "y", "z", "u", "v"})
LEVELS = {Level.LOW, Level.HIGH}
LIMIT = Limit()
PATTERN = re.compile("a+")

def even(value):
    return value

def helper(value):
    return deeper(value) + 1

def deeper(value):
    return value * FACTOR

def in_a_lambda(value): return value * 11

def by_module(name):
    return getattr(inner_rules, "inner_" + name)()

def by_default(value, step=1, *, scale=1):
    return value + step * scale

def recursive(value):
    return value if value < 1 else recursive(value - 1)

class Rules:
    base = 1
    def rate(self): return self.base
    @staticmethod
    def fixed(): return 1
    @classmethod
    def made(cls): return cls()
    @property
    def shown(self): return 1
    @functools.cached_property
    def kept(self): return 1

class Register(type):
    def counted(cls): return 1

class Registered(metaclass=Register): ...

class Plugin:
    registry = {}
    def fee(self): return 1

PLUGIN = Plugin()

class Stamped:
    since: Mapped[int] = mapped_column(default=0)
    MARGIN = 1
    @classmethod
    def margin(cls): return cls.MARGIN

class Tariff(Stamped, Base):
    __tablename__ = "tariffs"
    __mapper_args__ = {"eager_defaults": True}
    id: Mapped[int] = mapped_column(primary_key=True)
    RATE = 1
    @classmethod
    def price(cls): return cls.RATE + cls.margin()
    @hybrid_property
    def shown(self): return self.id + 1
    def __bool__(self): return True

class Ledger(AggregateRoot, Base):
    LIMIT = 1
    @classmethod
    def limit(cls): return cls.capped()
    @classmethod
    def capped(cls): return cls.LIMIT

class ExtraRules(Rules):
    def more(self): return 1

def logged(method):
    @functools.wraps(method)
    def wrapper(self, event):
        return method(self, event)
    return wrapper

def configured(step):
    def decorate(method):
        def wrapper(self, event):
            method(self, event)
            self.n += step
        return wrapper
    return decorate

class Caller:
    def __init__(self, step): self.step = step
    def __call__(self, aggregate, event): aggregate.n += self.step

def partly(aggregate, event, step):
    aggregate.n += step

@functools.lru_cache
def cached(value):
    return value + 1

@functools.singledispatch
def dispatched(value): return 0

@dispatched.register
def _(value: int): return 1

@contextlib.contextmanager
def managed(value):
    yield value

class Added(DomainEvent):
    __event_version__ = 2
    n: int = 1
    note: str = "n"
    def doubled(self): return self.n * 2

@upcast(Added, from_version=1)
def _older(data):
    data["n"] = 1
    return data

class Refunded(Added):
    __event_version__ = 2
    fee: int = 1
    _net: int = PrivateAttr(0)
    def model_post_init(self, context): self._net = self.n
    def model_price(self): return 1
    def doubled(self): return self.n * 4

@upcast(Refunded, from_version=1)
def _without_fee(data):
    data["fee"] = 1
    return data

class Charged(Refunded): ...

class Placed(DomainEvent): ...
class Moved(DomainEvent): ...
class Closed(DomainEvent): ...
class Opened(DomainEvent): ...
class Marked(DomainEvent): ...

class Common(AggregateRoot):
    n: int = 0
    STEP = 1
    model_config = 1
    @applies(Added)
    def _added(self, event):
        self.n += 1
    def _inner(self):
        self.n += 2
    @property
    def doubled(self): return self.n * 2
    def __contains__(self, value): return value == self.n

class Account(Common, Base):
    __snapshot_frequency__ = 1
    number: int = 0
    amount: Decimal = Decimal(0)
    level: Level = Level.LOW
    size: Size = Size.SMALL
    day: date = date(2026, 1, 1)
    moment: datetime = datetime(2026, 1, 1, tzinfo=timezone.utc)
    pause: timedelta = timedelta(1)
    names: list[str] = ["a"]
    known: frozenset[str] = frozenset({"x", "y", "z"})
    numbers: set[int] = {1, 2}
    by_name: dict[str, int] = {"a": 1, "b": 2}
    limit: Limit = Limit()
    money: Money = Money()
    purse: Purse = Purse()
    unit: Unit = Unit()
    pair: tuple[int, str] = (1, "a")
    identifier: UUID = UUID(int=1)
    half: float = 0.5
    data: bytes = b"a"
    maybe: int | None = None
    kind: Literal["a", "b"] = "a"
    checked: Annotated[int, AfterValidator(even)] = 0
    made: list[int] = Field(default_factory=lambda: [1])
    made_by: int = Field(default_factory=functools.partial(int, "1"))
    bounded: Annotated[int, Field(ge=0)] = 1

    def _added(self, event, step=1, *, scale=1):
        super()._added(event)
        self._other(event)
        type(self).named()
        self.n += helper(event.n) + by_default(1) + by_module("other") + cached(1) + dispatched(1)
        self.n += FACTOR * RATES["a"] + len(KNOWN) + len(LEVELS) + LIMIT.doubled() + recursive(0)
        self.n += Rules().rate() + ExtraRules().more() + self.doubled + self.STEP + self.model_config + event.doubled()
        self.n += PLUGIN.fee() + Tariff.price() + Ledger.limit()
        self.n += len(self) + self["a"] + self("a") + sum(self) + len(f"{self}") + (self == event) + hash(self)
        getattr(self, "_by_text")()
        CALL(self)
        READ(self)
        self._by_plan(event)
        getattr(self, f"_on_{event.note}")()
        self.n += Registered.counted() + Grade(event.n).value
        self.n += next(rate for prefix, rate in PREFIXES.items() if event.note.startswith(prefix))
        for each in (lambda: deeper(1), ): self.n += each()
        self.n += (lambda: in_a_lambda(1))() + sum(self._in_a_generator(each) for each in (1, 2))
        self.n += (lambda: getattr(self, "_by_text_in_a_lambda"))()()
        with managed(1): self.n += 1
        if PATTERN.match(event.note): self.n += 1
    _added = applies(Added)(_added)

    def _other(self, event):
        self._inner()
        if event.note == "business": self.n += 1  # a text that is a method's name, and asks for nothing
    def _by_text(self):
        self.n += 1
    def _by_event(self, event): getattr(self, event.note)()
    def _by_plan(self, event, reason="planned"):
        for name, step in PLANS[event.note]:
            getattr(self, name)(step, reason)
    def _planned(self, step, reason): self.n += step
    def _unplanned(self, step, reason): self.n -= step
    def _called(self): self.n += 3
    @property
    def _read(self): return self.n + 4
    def _on_opening(self): self.n += 5
    def _in_a_generator(self, value): return value * 12
    def _by_text_in_a_lambda(self): return 13
    def __init__(self, **values):
        super().__init__(**values)
        self.note = "new"
    def __len__(self): return 1
    def __getitem__(self, key): return len(key)
    def __call__(self, value): return value
    def __iter__(self): return iter([self.n])
    def __format__(self, how): return "format"
    def __eq__(self, other): return self is other
    def __hash__(self): return 7
    def business(self):
        return "not called by any handler"

    @applies(Placed)
    @logged
    def _placed(self, event):
        self.n += 1
    @applies(Moved)
    @configured(1)
    @logged
    def _moved(self, event):
        self.n += 1
    _opened = applies(Opened)(Caller(1))
    _marked = applies(Marked)(functools.partial(partly, step=1))

    @applies(Closed)
    def _closed(self, event):
        from inner_rules import inner_rate
        self.n += inner_rate()
"""
INNER = "def inner_other():\n    return 5\n\ndef unrelated():\n    return 70\n\ndef inner_rate():\n    return 1\n"

CHANGES: dict[str, tuple[str, str]] = {
    # defaults
    "int default": ("number: int = 0", "number: int = 1"),
    "Decimal default": ("amount: Decimal = Decimal(0)", "amount: Decimal = Decimal(1)"),
    "exponent of a Decimal default": ("amount: Decimal = Decimal(0)", 'amount: Decimal = Decimal("0.0")'),
    "enum default": ("level: Level = Level.LOW", "level: Level = Level.HIGH"),
    "flag default": ("size: Size = Size.SMALL", "size: Size = Size.SMALL | Size.LARGE"),
    "enum value": ('HIGH = "high"', 'HIGH = "HIGH"'),
    "method of an enum": ("def rate(self): return 1", "def rate(self): return 2"),
    "date default": ("date(2026, 1, 1)", "date(2026, 1, 2)"),
    "moment default": ("datetime(2026, 1, 1,", "datetime(2026, 1, 2,"),
    "timedelta default": ("timedelta(1)", "timedelta(2)"),
    "list default": ('names: list[str] = ["a"]', 'names: list[str] = ["b"]'),
    "frozenset default": ('frozenset({"x", "y", "z"})', 'frozenset({"x", "y", "w"})'),
    "set default": ("numbers: set[int] = {1, 2}", "numbers: set[int] = {1, 3}"),
    "dict default": ('{"a": 1, "b": 2}', '{"a": 1, "b": 3}'),
    "dataclass default": ("limit: Limit = Limit()", "limit: Limit = Limit(most=6)"),
    "default within a dataclass": ("most: int = 5", "most: int = 6"),
    "method of a dataclass": ("return self.most * 2", "return self.most * 3"),
    "model default": ("money: Money = Money()", "money: Money = Money(amount=Decimal(2))"),
    "default of an inner model": ("amount: Decimal = Decimal(1)", "amount: Decimal = Decimal(2)"),
    "default factory of an inner model": ('lambda: ["x"]', 'lambda: ["y"]'),
    "validator of an inner model": ("return value.upper()", "return value.lower()"),
    "model validator": ("def checked(self):\n        return self", "def checked(self):\n        self.net()\n        return self"),
    "method of a model": ("def net(self): return self.amount", "def net(self): return -self.amount"),
    "default of a nested model": (
        "    money: Money = Money()\n    purses",
        "    money: Money = Money(amount=Decimal(3))\n    purses",
    ),
    "named tuple default": ("unit: Unit = Unit()", "unit: Unit = Unit('g')"),
    "default of a named tuple": ("factor: int = 1", "factor: int = 2"),
    "tuple default": ('= (1, "a")', '= (1, "b")'),
    "UUID default": ("UUID(int=1)", "UUID(int=2)"),
    "float default": ("half: float = 0.5", "half: float = 0.25"),
    "bytes default": ('data: bytes = b"a"', 'data: bytes = b"b"'),
    "None default": ("maybe: int | None = None", "maybe: int | None = 0"),
    "a truth value for a number": ("number: int = 0", "number: int = False"),
    "default factory": ("default_factory=lambda: [1])", "default_factory=lambda: [2])"),
    "default factory that is partial": ('functools.partial(int, "1")', 'functools.partial(int, "2")'),
    "no default": ("number: int = 0", "number: int"),
    # types
    "type": ("number: int = 0", "number: Decimal = 0"),
    "literal": ('Literal["a", "b"]', 'Literal["a", "c"]'),
    "constraint": ("Field(ge=0)", "Field(ge=1)"),
    "validator in an annotation": ("def even(value):\n    return value", "def even(value):\n    return value + 1"),
    "a further field": ("number: int = 0", "number: int = 0\n    further: int = 0"),
    # handlers
    "decorated handler": ("def _placed(self, event):\n        self.n += 1", "def _placed(self, event):\n        self.n += 10"),
    "twice decorated handler": ("def _moved(self, event):\n        self.n += 1", "def _moved(self, event):\n        self.n += 10"),
    "decorator": ("return method(self, event)", "return method(self, event) or 1"),
    "value in a closure": ("@configured(1)", "@configured(2)"),
    "callable object": ("Caller(1)", "Caller(2)"),
    "code of a callable object": ("aggregate.n += self.step", "aggregate.n -= self.step"),
    "partial": ("partial(partly, step=1)", "partial(partly, step=2)"),
    "code of a partial": ("aggregate.n += step\n", "aggregate.n -= step\n"),
    "default argument": ("def _added(self, event, step=1, ", "def _added(self, event, step=2, "),
    "keyword default": ("def _added(self, event, step=1, *, scale=1)", "def _added(self, event, step=1, *, scale=2)"),
    "base handler by super()": ("def _added(self, event):\n        self.n += 1", "def _added(self, event):\n        self.n += 10"),
    "method of a base": ("def _inner(self):\n        self.n += 2", "def _inner(self):\n        self.n += 20"),
    "method that a handler calls": ("        self._inner()\n", "        self._inner(); self._inner()\n"),
    "method called by its text": ("def _by_text(self):\n        self.n += 1", "def _by_text(self):\n        self.n += 10"),
    "method named in a table": ("self.n += step\n    def _unplanned", "self.n += step * 2\n    def _unplanned"),
    "another method named in a table": ("self.n -= step", "self.n -= step * 2"),
    "method found by a methodcaller": ("def _called(self): self.n += 3", "def _called(self): self.n += 30"),
    "property found by an attrgetter": ("return self.n + 4", "return self.n + 40"),
    "method whose name is put together": ("def _on_opening(self): self.n += 5", "def _on_opening(self): self.n += 50"),
    "property of a base": ("def doubled(self): return self.n * 2", "def doubled(self): return self.n * 3"),
    "constant of a base": ("STEP = 1", "STEP = 2"),
    "constant of a base that is named as one of Pydantic's": ("model_config = 1", "model_config = 2"),
    "another method by the name": ("    def _other(self, event):", "    _other = Common._inner\n    def _former(self, event):"),
    # what they reach
    "function": ("return deeper(value) + 1", "return deeper(value) + 2"),
    "function of a function": ("return value * FACTOR", "return value * FACTOR * 2"),
    "constant": ("FACTOR = 3", "FACTOR = 4"),
    "order of a dict": ('{"a": 1, "b": Decimal(2)}', '{"b": Decimal(2), "a": 1}'),
    "order of rules": ('{"": 1, "a": 2}', '{"a": 2, "": 1}'),
    "order of the fields of a model": (
        '    amount: Decimal = Decimal(1)\n    currency: str = "EUR"',
        '    currency: str = "EUR"\n    amount: Decimal = Decimal(1)',
    ),
    "dict constant": ('"b": Decimal(2)}', '"b": Decimal(3)}'),
    "frozenset constant": ('"u", "v"})', '"u", "t"})'),
    "set of enum members": ("LEVELS = {Level.LOW, Level.HIGH}", "LEVELS = {Level.LOW}"),
    "dataclass constant": ("LIMIT = Limit()", "LIMIT = Limit(names=('b',))"),
    "pattern": ('re.compile("a+")', 're.compile("a+", re.IGNORECASE)'),
    "default argument of a function": ("def by_default(value, step=1,", "def by_default(value, step=2,"),
    "keyword default of a function": ("step=1, *, scale=1):\n    return", "step=1, *, scale=2):\n    return"),
    "recursive function": ("recursive(value - 1)", "recursive(value - 2)"),
    "method of a class": ("def rate(self): return self.base", "def rate(self): return self.base + 1"),
    "constant of a class": ("    base = 1", "    base = 2"),
    "method of a metaclass": ("def counted(cls): return 1", "def counted(cls): return 2"),
    "method of the aggregate's metaclass": ("def named(cls): return 1", "def named(cls): return 2"),
    "what stands for an unknown value": ("return cls.FIRST", "return None"),
    "static method": ("def fixed(): return 1", "def fixed(): return 2"),
    "class method": ("def made(cls): return cls()", "def made(cls): return cls"),
    "property": ("def shown(self): return 1", "def shown(self): return 2"),
    "cached property": ("def kept(self): return 1", "def kept(self): return 2"),
    "method of a derived class": ("def more(self): return 1", "def more(self): return 2"),
    "function behind a cache": (
        "    return value + 1\n\n@functools.singledispatch",
        "    return value + 2\n\n@functools.singledispatch",
    ),
    "dispatched function": ("def _(value: int): return 1", "def _(value: int): return 2"),
    "function that a lambda calls": ("return value * 11", "return value * 14"),
    "method that a generator calls": ("return value * 12", "return value * 15"),
    "method that a lambda finds by a text": ("return 13", "return 16"),
    "context manager": ("    yield value", "    yield value + 1"),
    "function imported when it runs": ("return 1\n#inner", "return 2\n#inner"),
    "function of a module by a text": ("return 5", "return 6"),
    # what Python calls by itself
    "len()": ("def __len__(self): return 1", "def __len__(self): return 2"),
    "an item": ("return len(key)", "return -len(key)"),
    "a call": ("def __call__(self, value): return value", "def __call__(self, value): return -value"),
    "a loop": ("iter([self.n])", "iter([-self.n])"),
    "a text with braces": ('return "format"', 'return "long format"'),
    "a comparison": ("return self is other", "return self is not other"),
    "a hash": ("return 7", "return 8"),
    "a test with in, of a base": ("return value == self.n", "return value != self.n"),
    "len() of the class": ("def __len__(cls): return 1", "def __len__(cls): return 2"),
    "constructor, where the class is at hand": ('self.note = "new"', 'self.note = "newer"'),
    # other classes
    "method of a class with a registry": ("def fee(self): return 1", "def fee(self): return 2"),
    "constant of an entity": ("    RATE = 1", "    RATE = 2"),
    "constant of a mixin of an entity": ("MARGIN = 1", "MARGIN = 2"),
    "hybrid of an entity": ("return self.id + 1", "return self.id + 2"),
    "special method of an entity": ("def __bool__(self): return True", "def __bool__(self): return False"),
    "constant of another aggregate": ("    LIMIT = 1", "    LIMIT = 2"),
    # events
    "version of an event": ("__event_version__ = 2", "__event_version__ = 3"),
    "default of an event": ('note: str = "n"', 'note: str = "m"'),
    "method of an event": ("def doubled(self): return self.n * 2\n\n@upcast", "def doubled(self): return self.n * 3\n\n@upcast"),
    "upcaster": ('data["n"] = 1', 'data["n"] = 2'),
    "an event that inherits": ("fee: int = 1", "fee: int = 2"),
    "method of an event that inherits": ("def doubled(self): return self.n * 4", "def doubled(self): return self.n * 5"),
    "upcaster of an event that inherits": ('data["fee"] = 1', 'data["fee"] = 2'),
    "a further event that inherits": ("class Charged(Refunded): ...", "class Charged(Refunded): ...\nclass Doubled(Added): ..."),
    "model_post_init": ("self._net = self.n", "self._net = -self.n"),
    "private attribute": ("PrivateAttr(0)", "PrivateAttr(1)"),
    "method whose name begins as Pydantic's own": ("def model_price(self): return 1", "def model_price(self): return 2"),
    "snapshot version": ("__snapshot_frequency__ = 1", "__snapshot_frequency__ = 1\n    __snapshot_version__ = 2"),
    "attribute hook": (
        "def _other(self, event):",
        "def __getattr__(self, name): raise AttributeError(name)\n    def _other(self, event):",
    ),
}

SAME: dict[str, tuple[str, str]] = {
    "nothing": ("", ""),
    "frequency": ("__snapshot_frequency__ = 1", "__snapshot_frequency__ = 7"),
    "comment": ("FACTOR = 3", "# three\n\n\nFACTOR = 3  # 3"),
    "function that no handler reaches": ("class Common(", "def unrelated(): return 1\nclass Common("),
    "method that no handler calls": ('"not called by any handler"', '"still not called by any handler"'),
    "function of a module that no text names": ("return 70", "return 80"),
    "order of methods": (
        "    def _called(self): self.n += 3\n    @property\n    def _read(self): return self.n + 4\n",
        "    @property\n    def _read(self): return self.n + 4\n    def _called(self): self.n += 3\n",
    ),
    "order of a set": ('"x", "y", "z", "u", "v"', '"v", "u", "z", "y", "x"'),
}

TWINS: dict[str, list[tuple[str, str]]] = {
    "a method by a name that only the event has": [
        ("CALL(self)", "self._by_event(event)"),
        ("not called by any handler", "called by its name"),
    ],
    "a method by getattr under another name": [
        ("CALL(self)", "self._by_event(event)"),
        ("getattr(self, event.note)", "GET(self, event.note)"),
        ("not called by any handler", "called by its name"),
    ],
}
"""Pairs of releases: one has all these changes, and the other one lacks the last."""

INDIGESTIBLE: dict[str, tuple[str, str]] = {
    "a lock that a handler names": ("FACTOR = 3", "import threading\nFACTOR = threading.Lock()"),
    "an engine": ("FACTOR = 3", "import sqlalchemy\nFACTOR = sqlalchemy.create_engine('sqlite://')"),
    "a lock in a closure": ("@configured(1)", "@configured(__import__('threading').Lock())"),
    "a generator": ("step=1, *, scale=1):\n        super()", "step=(n for n in ()), *, scale=1):\n        super()"),
    "code that is a text": ("return value + step * scale", "return eval('value')"),
    "what a text finds in a module": ("return value + step * scale", "return globals()['FACTOR']"),
    "a module that a text names": (
        "return value + step * scale",
        "import importlib\n    return importlib.import_module('inner_' + value)",
    ),
    "a lock in a default": (
        "by_default(value, step=1,",
        "by_default(value, step=__import__('threading').Lock(),",
    ),
    "a type that Pydantic does not know": ("number: int = 0", "number: Rules = None"),
}


def fingerprint_of(source: str, inner: str) -> str | None:
    """Run a release's code, in a process that knows of no other, and give its aggregate's fingerprint."""
    event_types._classes.clear()
    upcasting._upcasters.clear()
    for name, text in (("inner_rules", inner), ("release", source)):
        module = sys.modules[name] = types.ModuleType(name)
        exec(compile(text, f"/releases/{name}.py", "exec"), vars(module))
    found: str | None = sys.modules["release"].Account.__aggregate_definition__.fingerprint
    return found


def release(*changes: tuple[str, str]) -> tuple[str, str]:
    """Give the release with some changes: its code and that of the module it imports when it runs."""
    whole = SOURCE + "#split\n" + INNER + "#inner\n"
    for old, new in changes:
        changed = whole.replace(old, new)
        if old and changed == whole:
            raise ValueError(f"there is no {old!r}")
        whole = changed
    source, inner = whole.split("#split\n")
    return source, inner


def main() -> None:
    """Print the fingerprints of all releases as JSON."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {name: fingerprint_of(*release(change)) for name, change in (CHANGES | SAME | INDIGESTIBLE).items()}
        for name, changes in TWINS.items():
            found[f"before {name}"] = fingerprint_of(*release(*changes[:-1]))
            found[f"after {name}"] = fingerprint_of(*release(*changes))
        print(json.dumps(found))


if __name__ == "__main__":
    main()
