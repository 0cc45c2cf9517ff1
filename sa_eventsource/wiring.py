"""Everything that is called without being called by name: who listens to SQLAlchemy, and who to what happens in the log.

Read this first. Each line says when, and whom. It is done once, when ``sa_eventsource`` is imported; within one event, listeners
are called in the order of these lines. Nothing else in the package listens, except for what belongs to one thing alone:

- a table: partitions, triggers and policies are made behind ``CREATE TABLE`` (``mapping.partitions``, ``mapping.immutability``,
  ``mapping.tenant_columns``);
- a mapped class: attributes of an aggregate refuse assignments, rows of a read model are guarded (``session.guards``,
  ``session.declarations``, ``session.protected_rows``), and it is noted whose a row is (``session.tenants_of_instances``);
- a connection, while a handler uses it: it is not to commit (``consumers.handling``);
- an engine that the command line or the self-test has made for itself, one at which the race finder has actors
  stop, and one whose statements a test counts;
- a session that the event browser opens: the time of its statements is limited (``browser.log_source``);
- what the package ``events`` keeps of event classes: it is forgotten when one is declared.

What SQLAlchemy compiles (``@compiles``) and Alembic writes into scripts is registered where it is defined.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module

from sqlalchemy import inspect
from sqlalchemy.dialects import registry
from sqlalchemy.event import listen
from sqlalchemy.orm import Mapper, Session

from sa_eventsource.aggregates import AggregateRoot, StateField, set_session_side
from sa_eventsource.commands import attempt, commands_of_tenants, scheduling
from sa_eventsource.consumers import refuse_commit
from sa_eventsource.events import on_join
from sa_eventsource.integrity import growing_worker
from sa_eventsource.mapping import EventRecord
from sa_eventsource.privacy.sealing_by_subject import PersonalDataSealing
from sa_eventsource.processes import ProcessManager, process_manager
from sa_eventsource.projections import waiting
from sa_eventsource.read_models import ReadModel, mapped_rows, read_model, row_guards, strong, uncalled_hooks, unfed_models
from sa_eventsource.session import (
    commits,
    declarations,
    guards,
    hydration,
    ledger,
    on_committed,
    on_mapped,
    on_mapping,
    on_savepoint_undone,
    protect,
    protect_from_statements,
    state_reader,
    tenants_of_instances,
    unit_of_work,
    written_events,
)
from sa_eventsource.session.instances import SessionSide
from sa_eventsource.session.sqlalchemy_internals import refuse_inspection
from sa_eventsource.store import on_appended, set_sealing, snapshots, tenants
from sa_eventsource.workers import announcements, on_working, pruning


def wire() -> None:
    """Let everyone listen."""
    _declarations()
    _loading()
    _flushes_and_transactions()
    _appended_events()
    set_sealing(PersonalDataSealing())
    _commands()
    _read_models()
    _migrations()
    _dialects()


def _declarations() -> None:
    listen(Mapper, "instrument_class", declarations.instrumented)
    listen(Mapper, "after_mapper_constructed", guards.guard_mapper)
    listen(Mapper, "after_mapper_constructed", declarations.mapped)
    listen(Mapper, "before_mapper_configured", declarations.refuse_undecided_joins)
    listen(object, "attribute_instrument", declarations.attribute_instrumented)
    refuse_inspection(StateField, StateField.__clause_element__)
    guards.guard_mapper(inspect(EventRecord), EventRecord)  # was mapped before


def _loading() -> None:
    listen(Mapper, "after_mapper_constructed", state_reader.mapped)
    listen(Session, "do_orm_execute", hydration.load_by_id)
    listen(Session, "do_orm_execute", guards.check_statement)
    # SQLAlchemy lets go of an instance before it reports that it is expired: there may be no instance any more.
    listen(AggregateRoot, "expire", hydration.expired, propagate=True, raw=True)


def _flushes_and_transactions() -> None:
    set_session_side(SessionSide())
    listen(Session, "after_begin", tenants.begin_for_tenant)
    listen(Session, "after_transaction_end", tenants.end_for_tenant)
    tenants.on_begun_for_tenant(tenants_of_instances.watch)
    listen(Session, "before_flush", unit_of_work.before_flush, insert=True)  # first, to see whether there are others
    listen(Session, "after_flush_postexec", ledger.end_flush)
    listen(Session, "before_commit", refuse_commit)
    listen(Session, "before_commit", ledger.before_commit)
    listen(Session, "after_commit", attempt.after_commit)  # first: others may fail
    listen(Session, "after_commit", commits.after_commit)
    listen(Session, "after_rollback", written_events.after_rollback)
    listen(Session, "after_soft_rollback", written_events.after_soft_rollback)
    listen(Session, "after_transaction_end", written_events.after_transaction_end)
    listen(Session, "after_transaction_end", commits.after_transaction_end)
    listen(Session, "before_attach", ledger.before_attach, raw=True)
    listen(Session, "detached_to_persistent", ledger.joined)
    listen(Session, "persistent_to_detached", ledger.discard, raw=True)
    listen(Session, "pending_to_transient", written_events.became_transient, raw=True)
    listen(Session, "persistent_to_transient", written_events.became_transient, raw=True)


def _appended_events() -> None:
    on_appended(snapshots.write_snapshots, writes=snapshots.are_due)
    on_appended(written_events.record_appended)
    on_appended(strong.write_strong_models, writes=strong.are_concerned)
    on_savepoint_undone(strong.expire_strong_models)
    on_committed(waiting.wait_where_asked)
    on_committed(announcements.announce)


def _commands() -> None:
    listen(Session, "after_commit", scheduling.after_commit)
    on_working(commands_of_tenants.due_commands, commands_of_tenants.async_due_commands)
    on_working(pruning.pruning, pruning.async_pruning)
    on_working(growing_worker.growing_tree, growing_worker.async_growing_tree)
    on_mapped(ProcessManager, process_manager.follow)


def _read_models() -> None:
    protect(ReadModel, row_guards.refuse)
    protect_from_statements(ReadModel, row_guards.refuse, class_of_table=row_guards.model_of, refuse_bulk=row_guards.refuse_bulk)
    on_mapping(ReadModel, read_model.mapping)
    listen(Mapper, "before_mapper_configured", unfed_models.refuse_unfed)
    on_mapped(ReadModel, mapped_rows.claim)
    on_mapped(ReadModel, uncalled_hooks.refuse_uncalled)
    on_mapped(AggregateRoot, read_model.check_removals)
    on_join(read_model.take_further)


def _dialects() -> None:
    """Have the engine's URL known where the package is imported from a folder; else an entry point says it, too."""
    registry.register("postgresql.psycopg_pipelined", "sa_eventsource.pipelined.dialect", "PipelinedDialect")


def _migrations() -> None:
    """Teach Alembic, where it is at work already: an ``env.py`` without the import would go without triggers, and say nothing."""
    if "alembic" in sys.modules:
        with suppress(ImportError):  # an Alembic that is too old; whoever asks for the migrations by name is told
            import_module("sa_eventsource.migrations")
