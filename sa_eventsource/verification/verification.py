"""Verifying a log and what follows it, while the application runs."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from sa_eventsource.checkpoints import any_bind
from sa_eventsource.mapping import session_maker, tables_of_base
from sa_eventsource.store import require_tenant
from sa_eventsource.verification import (
    archive_checks,
    checkpoint_checks,
    index_checks,
    log,
    partition_checks,
    role_checks,
    row_security_checks,
    snapshot_checks,
    table_checks,
    tenant_checks,
    trigger_checks,
)
from sa_eventsource.verification.findings import Finding, Verification, first_of
from sa_eventsource.verification.one_state import one_state
from sa_eventsource.verification.proof_checks import ProofCheck, ProofOptions
from sa_eventsource.verification.rows import RowCheck, reason_not_to_compare
from sa_eventsource.verification.sample import Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from sqlalchemy import Connection, Engine
    from sqlalchemy.orm import Session, sessionmaker

    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.verification.findings import Progress

_CHECKS: dict[str, Callable[[Connection, EventSourceTables], Any]] = {
    "streams": log.check_streams,
    "aggregate types": log.check_aggregate_types,
    "event types": log.check_event_types,
    "times": log.check_moments,
    "metadata": log.check_metadata,
    "transactions": log.check_transactions,
    "checkpoints": checkpoint_checks.check_checkpoints,
    "parked events": checkpoint_checks.check_parked,
    "snapshots": snapshot_checks.check_last_events,
    "constraints": index_checks.check_log_constraints,
    "tables": table_checks.check_tables,
    "archives": archive_checks.check_archives,
    "partitions": partition_checks.check_partitions,
    "immutability": trigger_checks.check_immutability,
    "roles": role_checks.check_roles,
    "tenants": tenant_checks.check_tenants,
    "row security": row_security_checks.check_row_security,
}


def verify(  # noqa: PLR0913 - by keyword
    sessions: Engine | sessionmaker[Session],
    base: Any,
    *,
    sample: int | None = None,
    seed: int | None = None,
    only: Collection[str] | None = None,
    proofs: ProofOptions | bool = False,
    progress: Progress | None = None,
) -> Verification:
    """Check that the log is whole, and that snapshots, checkpoints and read models are what it makes them.

    That is: each stream's versions count from 1 without a hole, in the order of their positions; the code knows all types of
    aggregates and events; transaction ids, checkpoints and parked events belong to this cluster and this log, and no checkpoint is
    past an event that was not taken; the last event of each snapshot is in the log, and its state is the fold of the events; each
    row of a read model is the fold of the events that the model has taken, none is missing, and the unique indexes are there;
    archives, files too, are what their manifests say, and a marker of each stands in the log; the log refuses a second event in
    place of another, has the partitions that are declared, and triggers refuse changes; the roles that are declared may do what
    they are to, and nothing else; no row security hides rows that the declaration does not. Read models with ``@handles`` methods
    cannot be compared: only running them shows what they mean. On a connection that is not to see personal data, neither can what
    holds it, nor tables that its role may not read.

    Everything is read in transactions that change nothing and lock nothing, and each sees one state of the database, so that the
    application and the workers may go on. Memory is needed for the rows that are compared.

    Example: ``assert verify(engine, Base).is_sound``

    Args:
        sessions: An engine, or what makes sessions where these need more than that.
        base: The declarative base.
        sample: About how many snapshots and rows of each class to compare with the fold; None for all.
        seed: What to draw the sample with; None for another one each time.
        only: Names of the read models to compare; None for all.
        proofs: Whether to compare the log with its Merkle tree too, or with which heads that were kept elsewhere.
        progress: Called with what is checked, how many of it are done, and how many there are.

    Returns:
        What was found.

    Raises:
        DeclarationError: The log is to be compared with its tree, and the base has none.
    """
    make = session_maker("verify()", sessions)
    tables = tables_of_base("verify()", base)
    drawn = Sample(sample, random.getrandbits(32) if seed is None else seed)
    show = progress or _show_nothing
    found: list[Finding] = []
    with make() as session:
        for name, check in _CHECKS.items():
            show(name, 0, None)
            with one_state(session, any_bind(tables)) as connection:
                require_tenant(connection, tables.events)
                found += first_of(check(connection, tables))
        with one_state(session, any_bind(tables)) as connection:
            archived = archive_checks.number_of_archived(connection, tables)
            states = snapshot_checks.StateCheck(connection, tables)
            found += first_of(states.findings(drawn, show))
        proven = None
        if proofs is not False:
            proven = ProofCheck(ProofOptions() if proofs is True else proofs)
            with one_state(session, any_bind(tables)) as connection:
                found += proven.findings(connection, tables, show)
        rows: dict[str, int] = {}
        not_compared: dict[str, str] = {}
        for name, definition in sorted(tables.read_models.items()):
            if only is not None and name not in only:
                continue
            with one_state(session, definition.bind_arguments) as connection:
                found += index_checks.check_unique_indexes(connection, definition)
                reason = reason_not_to_compare(connection, definition)
                if reason is not None:
                    not_compared[name] = reason
                    continue
                check_of_rows = RowCheck(connection, definition)
                found += first_of(check_of_rows.findings(drawn, show))
                rows[name] = check_of_rows.compared
    covered, uncovered = (None, None) if proven is None else (proven.covered, proven.uncovered)
    return Verification(
        findings=tuple(found),
        snapshots=states.compared,
        rows=rows,
        not_compared=not_compared,
        seed=drawn.seed,
        covered=covered,
        uncovered=uncovered,
        sealed_snapshots=states.sealed,
        archived=archived,
    )


def _show_nothing(_what: str, _done: int, _total: int | None) -> None:
    pass
