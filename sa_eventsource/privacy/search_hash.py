"""Searching for personal values by a keyed hash: a column of a read model that says whether two are the same, and nothing else."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from sqlalchemy import String
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import ColumnElement

from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.privacy.master_keys import EnvironmentKeys, FileKeys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LENGTH = 43

_by: ContextVar[int] = ContextVar("sa_eventsource_search_key", default=0)


@contextmanager
def hashing_by(number: int) -> Iterator[None]:
    """Hash with the key of a number for the block, counted from 0; with the last one where there are not so many."""
    token = _by.set(number)
    try:
        yield
    finally:
        _by.reset(token)


class SearchHash(String):
    """Type of a column that holds hashes of personal values, made with a key that is not in the database.

    ``EMAIL_HASH = SearchHash(EnvironmentKeys("SEARCH_KEYS"), "customers.email")``. An ``@evolves`` method of a read model in clear,
    with a table of its own, sets the column to ``EMAIL_HASH.of(email)``. What it is compared with, by ``==``, ``!=`` and ``in_``,
    is hashed: ``select(Customer).where(Customer.email == "ann@example.com")``. Other comparisons are refused. When its subject is
    forgotten, the row is rebuilt, and holds the hash of the placeholder, or None.

    Values are compared as they are: write them in one way, such as in lower case, in both places.
    """

    cache_ok = True

    def __init__(self, keys: EnvironmentKeys | FileKeys, purpose: str) -> None:
        """Choose the keys.

        Args:
            keys: Where the keys are, of which the first hashes, and all find what they have hashed: not the master keys.
            purpose: What the hashes are for, such as ``"customers.email"``: the same value has another hash for another purpose.

        Raises:
            DeclarationError: These are no such keys, or the purpose is empty.
        """
        if not isinstance(keys, EnvironmentKeys | FileKeys):
            raise DeclarationError(f"SearchHash({keys!r}): pass EnvironmentKeys(...) or FileKeys(...); a service gives no key away")
        if not isinstance(purpose, str) or not purpose:
            raise DeclarationError(f'SearchHash(..., {purpose!r}): say what the hashes are for, such as "customers.email"')
        super().__init__(_LENGTH)
        self.keys = keys
        self.purpose = purpose

    def __repr__(self) -> str:
        """Write it as it is declared."""
        return f"SearchHash({self.keys!r}, {self.purpose!r})"

    def of(self, value: str | None) -> str | None:
        """Hash a value with the first key, or within :func:`hashing_by` with another one; None stays None.

        Raises:
            MasterKeyError: There is no key, or what should be one is none.
            TypeError: It is no text.
        """
        if value is None:
            return None
        hashes = self.all_of(value)
        return hashes[min(_by.get(), len(hashes) - 1)]

    def all_of(self, value: str) -> list[str]:
        """Hash a value with each key, the first in front. Errors as for :meth:`of`."""
        if not isinstance(value, str):
            raise TypeError(f"a SearchHash compares texts, not {value!r}; write it as the same text as where it is hashed")
        purpose = b"sa_eventsource.search_hash\0" + self.purpose.encode()
        keys = (hmac.digest(key, purpose, "sha256") for key in self.keys.keys().values())
        hashes = (hmac.digest(key, value.encode("utf-8", "surrogatepass"), "sha256") for key in keys)
        return [urlsafe_b64encode(each).decode("ascii").rstrip("=") for each in hashes]

    class Comparator(String.Comparator[str]):
        """Hashes what the column is compared with."""

        def operate(self, op: Any, *other: Any, **kwargs: Any) -> Any:
            """Compare with the hashes of a value, by all keys; refuse what hashes do not say."""
            if op in (operators.eq, operators.ne):
                (value,) = other
                if not _is_value(value):
                    return super().operate(op, value, **kwargs)
                return self._among([value], operators.in_op if op is operators.eq else operators.not_in_op)
            if op in (operators.in_op, operators.not_in_op):
                (values,) = other
                if isinstance(values, list | tuple | set | frozenset):
                    return self._among(values, op)
            if op not in _OTHERS:
                raise self._refusal()
            return super().operate(op, *other, **kwargs)

        def reverse_operate(self, op: Any, other: Any, **kwargs: Any) -> Any:  # noqa: ARG002 - SQLAlchemy's signature
            """Refuse it: for ``==`` and ``!=`` Python asks the column first."""
            raise self._refusal()

        def _among(self, values: Any, op: Callable[..., Any]) -> Any:
            kind: Any = self.type
            return super().operate(op, [each for value in values for each in kind.all_of(value)])

        def _refusal(self) -> TypeError:
            return TypeError(f"{self.expr} holds hashes, which say whether two values are the same: compare by ==, != or in_()")

    comparator_factory = Comparator


_OTHERS = (operators.is_, operators.is_not, operators.asc_op, operators.desc_op)
"""What has the same meaning for hashes: whether there is one, and some order, as a page of rows needs one."""


def _is_value(other: object) -> bool:
    return other is not None and not isinstance(other, ColumnElement) and not hasattr(other, "__clause_element__")
