"""What the catalog says of the relations that statements name: which of those that a transaction has locked one has touched."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sa_eventsource.testing.races.touched import NOTHING, Touched

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_RELATIONS = (
    "SELECT oid::bigint, relname::text, relkind::text FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'i', 'I')"
)
_RELATED = """
SELECT conrelid::bigint, confrelid::bigint FROM pg_constraint WHERE contype = 'f'
UNION ALL SELECT inhparent::bigint, inhrelid::bigint FROM pg_inherits
"""
_TRIGGERS = "SELECT tgrelid::bigint, tgtype::int FROM pg_trigger WHERE NOT tgisinternal"
_UNCLEAR = "SELECT ev_class::bigint FROM pg_rewrite WHERE ev_class >= 16384 UNION SELECT polrelid::bigint FROM pg_policy"
_FUNCTIONS = "SELECT proname::text FROM pg_proc WHERE oid >= 16384 AND prorettype <> 'trigger'::regtype"

_CHANGES_CATALOG = re.compile(r"\s*(?:create|drop|alter)\s+(?!temp)", re.IGNORECASE)
_READS_CATALOG = re.compile(
    r"\bpg_(?:catalog\.pg_)?(?:class|type|namespace|index|attribute|constraint|proc|enum|tables|views|indexes|sequences|matviews)\b"
    r"|\binformation_schema\b|\bto_reg|::reg",
    re.IGNORECASE,
)
_CATALOG = frozenset({1259})
"""``pg_class``, which stands for all catalogs: PostgreSQL lets go of its locks on them before a statement ends."""

_WORD = re.compile(r"[A-Za-z_][\w$]*")
_ROW_LOCK = re.compile(r"\bFOR\s+(?:NO\s+KEY\s+)?UPDATE\b", re.IGNORECASE)
_WRITES = {"insert": 4, "delete": 8, "update": 16, "merge": 4 | 8 | 16, "truncate": 32}
"""Words, and the bits of ``pg_trigger.tgtype`` for the triggers that they fire."""


@dataclass(slots=True)
class Catalog:
    """The relations of a database.

    Attributes:
        sequences: The sequences.
        indexes: The indexes.
        newest: The highest number that is known.
    """

    sequences: frozenset[int] = NOTHING
    indexes: frozenset[int] = NOTHING
    newest: int = 0
    _named: dict[str, set[int]] = field(default_factory=dict)
    _related: dict[int, set[int]] = field(default_factory=dict)
    _triggers: dict[int, int] = field(default_factory=dict)
    _unclear: frozenset[int] = NOTHING
    _functions: frozenset[str] = frozenset()

    @classmethod
    def read(cls, ask: Callable[[str], Sequence[Sequence[Any]]]) -> Catalog:
        """Read it."""
        named: dict[str, set[int]] = defaultdict(set)
        kinds: dict[int, str] = {}
        for oid, name, kind in ask(_RELATIONS):
            kinds[oid] = kind
            if kind not in "SiI":
                named[name.lower()].add(oid)
        related: dict[int, set[int]] = defaultdict(set)
        for one, other in ask(_RELATED):
            related[one].add(other)
            related[other].add(one)
        triggers: dict[int, int] = defaultdict(int)
        for oid, kind in ask(_TRIGGERS):
            triggers[oid] |= kind
        views = {oid for oid, kind in kinds.items() if kind in "vm"}
        return cls(
            frozenset(oid for oid, kind in kinds.items() if kind == "S"),
            frozenset(oid for oid, kind in kinds.items() if kind in "iI"),
            max(kinds, default=0),
            dict(named),
            dict(related),
            dict(triggers),
            frozenset(views.union(row[0] for row in ask(_UNCLEAR))),
            frozenset(row[0].lower() for row in ask(_FUNCTIONS)),
        )

    @staticmethod
    def of_catalog(text: str) -> Touched:
        """Give what a statement touches of PostgreSQL's catalogs, which DDL changes, and who looks for a table reads."""
        if _CHANGES_CATALOG.match(text):
            return Touched(_CATALOG, _CATALOG, _CATALOG)
        return Touched(_CATALOG) if _READS_CATALOG.search(text) else Touched()

    def part(self, text: str, before: Touched, after: Touched) -> Touched:
        """Give what a statement has touched itself, or more.

        That is what its transaction had not locked before, and what it names, with the tables behind foreign keys and partitions.
        Where something is called that may touch more (triggers, rules, policies, functions of the database's own), or no table is
        named, it is all that the transaction has locked.

        Args:
            text: The statement.
            before: What its transaction had touched before.
            after: What it has touched since.
        """
        plain = _ROW_LOCK.sub(" ", text)
        words = {each.lower() for each in _WORD.findall(plain)}
        fired = 0
        for word, bits in _WRITES.items():
            if word in words:
                fired |= bits
        named = {oid for word in words for oid in self._named.get(word, ()) if oid in after.read}
        touched = named.union(*(self._related.get(each, NOTHING) for each in named))
        if (
            not named
            or words & self._functions
            or touched & self._unclear
            or any(self._triggers.get(each, 0) & fired for each in touched)
        ):
            return after
        kept = frozenset(touched) | (after.read - before.read)
        advisory = frozenset(each for each in after.locked if each < 0) if "advisory" in text else NOTHING
        return Touched(
            after.read & kept,
            (after.locked & kept) | (after.locked - before.locked) | advisory,
            (after.written & kept) | (after.written - before.written),
            (after.held_whole & kept) | (after.held_whole - before.held_whole),
            after.drawn if "insert" in words or "nextval" in words else after.drawn - before.drawn,
        )
