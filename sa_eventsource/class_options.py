"""The options that an application sets on its classes, such as ``__snapshot_frequency__ = 100``.

Python takes any attribute of a class, so a misspelt option would pass in silence and the default would hold. One table of all names
finds those that are meant: a name between double underscores that nearly is an option, and an option on the wrong kind of class.
"""

from __future__ import annotations

import difflib
import enum
import functools
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

from sa_eventsource.exceptions import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


_OF_AGGREGATES = ("__aggregate_type__", "__snapshot_frequency__", "__snapshot_version__", "__ignored_events__")


class Kind(enum.Enum):
    """What kind of class has which options."""

    EVENT = ("an event", "events", ("__event_type__", "__event_version__", "__former_types__"))
    AGGREGATE = ("an aggregate", "aggregates", _OF_AGGREGATES)
    PROCESS = ("a process manager", "process managers", (*_OF_AGGREGATES, "__on_error__", "__start__"))
    READ_MODEL = (
        "a read model",
        "read models",
        (
            "__projection_name__",
            "__consistency__",
            "__version__",
            "__on_error__",
            "__shards__",
            "__removed_by__",
            "__aggregates__",
            "__indexes__",
            "__personal_data__",
        ),
    )
    COMMAND = ("a command", "commands", ("__command_type__",))

    def __init__(self, one: str, several: str, options: tuple[str, ...]) -> None:
        """Name the kind in messages, and list its options."""
        self.one = one
        self.several = several
        self.options = options


_FOR_ALL = ("__eventsource__", "__abstract__")
_OF_SQLALCHEMY = ("__tablename__", "__table_args__")
_FOREIGN = frozenset({"__versioned__"})
"""Options of other libraries (here SQLAlchemy-Continuum) that are spelt nearly like one of ours."""

_OPTIONS = {option: [kind for kind in Kind if option in kind.options] for each in Kind for option in each.options}
_CORES = {each.strip("_"): each for each in (*_OPTIONS, *_FOR_ALL, *_OF_SQLALCHEMY)}
_NEAR = 0.8
_LONGER = 2
"""A name that is longer than an option by more is another one that contains it: ``__versioning__``, ``__version_id__``."""

_LIBRARIES = frozenset({"builtins", "typing", "typing_extensions", "abc", "pydantic", "sqlalchemy", "sa_eventsource"})


def check_options(declared: type[Any], kind: Kind) -> None:
    """Look for options that would have no effect, in a class and in all that it inherits from.

    Methods are left alone, as are names that resemble no option: they belong to Python, or to another library.

    Args:
        declared: The class.
        kind: What kind of class it is.

    Raises:
        DeclarationError: An option is misspelt, or is one of another kind of class.
    """
    for klass in declared.__mro__:
        if klass.__module__.partition(".")[0] not in _LIBRARIES:
            for name, given in _dunders(klass):
                meant = _meant(given)
                if given in _OPTIONS and given == name:
                    if klass is declared and kind not in _OPTIONS[given]:
                        raise DeclarationError(_of_another_kind(klass, given, kind))
                elif meant is not None and given not in _FOREIGN and not isinstance(vars(klass).get(name), FunctionType):
                    raise DeclarationError(
                        f"{klass.__name__} sets {given}, which is no option and would have no effect. Write {meant}."
                    )


class Members(NamedTuple):
    """What an option holds several of.

    Attributes:
        name: What they are, for messages.
        example: How such an option is written.
        is_one: Tells whether a value is one.
    """

    name: str
    example: str
    is_one: Callable[[Any], bool]


NAMES = Members("names", '("OldName",)', lambda each: isinstance(each, str))


def several(where: type[Any], option: str, given: Any, members: Members) -> tuple[Any, ...]:
    """Take an option that holds several things: a tuple, or another collection of them.

    Args:
        where: The class.
        option: The option's name.
        given: What the class says.
        members: What the collection may hold.

    Raises:
        DeclarationError: It is something else: often one thing alone, where the comma that makes it a tuple was forgotten.
    """
    if isinstance(given, tuple | list | set | frozenset) and all(map(members.is_one, given)):
        return tuple(given)
    cure = f"({_written(given)},)" if members.is_one(given) else members.example
    raise DeclarationError(f"{where.__name__}.{option} is {_written(given)}; write a tuple of {members.name}: {option} = {cure}")


def _dunders(klass: type[Any]) -> Iterator[tuple[str, str]]:
    """List the names in a class's body that begin with two underscores: as they are kept, and as they were written."""
    mangled = f"_{klass.__name__.lstrip('_')}"
    private: Iterable[str] = vars(klass).get("__private_attributes__") or ()  # where Pydantic keeps them
    for name in dict.fromkeys((*vars(klass), *vars(klass).get("__annotations__", ()), *private)):
        if name.startswith("__"):
            yield name, name
        elif name.startswith(f"{mangled}__"):
            yield name, name.removeprefix(mangled)


@functools.cache
def _meant(name: str) -> str | None:
    """Find the option that a name nearly is; None where it is one, or resembles none."""
    if name in _CORES.values():
        return None
    core = name.strip("_")
    near = difflib.get_close_matches(core, [each for each in _CORES if len(core) - len(each) <= _LONGER], n=1, cutoff=_NEAR)
    return _CORES[near[0]] if near else None


def _of_another_kind(klass: type[Any], option: str, kind: Kind) -> str:
    if kind is Kind.AGGREGATE and option == "__former_types__":
        return (
            f"{klass.__name__} sets {option}, but an aggregate has one stored name, which each of its streams is found by. After "
            f'renaming the class, keep that name: __aggregate_type__ = "..." with the name that the class had.'
        )
    kinds = [Kind.AGGREGATE] if Kind.AGGREGATE in _OPTIONS[option] else _OPTIONS[option]
    return (
        f"{klass.__name__} sets {option}, which is an option of {' and '.join(each.several for each in kinds)}. "
        f"The options of {kind.one} are {', '.join(kind.options)}."
    )


def _written(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else repr(value)
