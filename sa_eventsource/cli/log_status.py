"""What there is to say of a log for a health check, and of each tenant's part where tenants share it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from sa_eventsource.cli.target import for_tenant
from sa_eventsource.integrity import TreeStatus, tree_status
from sa_eventsource.projections import ReadModelManager, oldest_transaction, problems
from sa_eventsource.workers import tenants_of_log

if TYPE_CHECKING:
    from sa_eventsource.cli.target import Target
    from sa_eventsource.projections import CommandBacklog, ConsumerStatus, OldestTransaction, UndeclaredCheckpoint


@dataclass(frozen=True, slots=True)
class LogStatus:
    """What follows a log, or one tenant's part of it, and how far it has come.

    Attributes:
        consumers: The followers.
        commands: The commands that wait; None if there is no table of them.
        undeclared: The checkpoints that nothing declares.
        tree: The Merkle tree; None if the log has no proofs.
    """

    consumers: list[ConsumerStatus]
    commands: CommandBacklog | None
    undeclared: list[UndeclaredCheckpoint]
    tree: TreeStatus | None

    @classmethod
    def read(cls, target: Target) -> LogStatus:
        """Ask the database."""
        manager = ReadModelManager(target.engine, target.base)
        return cls(manager.status(), manager.commands(), manager.undeclared(), _tree(target))

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing that could be followed."""
        return not self.consumers and self.commands is None and self.tree is None

    def problems(self, max_lag: float | None) -> list[str]:
        """List what is wrong."""
        of_tree = [] if self.tree is None else self.tree.problems(max_lag_seconds=max_lag)
        return problems(self.consumers, self.commands, self.undeclared, max_lag_seconds=max_lag) + of_tree

    def to_json(self) -> dict[str, Any]:
        """Give it as what ``json.dumps`` takes."""
        return {
            "consumers": [_as_json(each) for each in self.consumers],
            "commands": None if self.commands is None else dataclasses.asdict(self.commands),
            "undeclared": [_as_json(each) for each in self.undeclared],
            "proofs": None if self.tree is None else _as_json(self.tree),
        }


def of_tenants(target: Target) -> dict[str, LogStatus]:
    """Ask for each tenant of a log.

    Raises:
        WorkerRoleError: The role that is connected may not see all tenants.
    """
    with Session(target.engine) as session:
        tenants = tenants_of_log(session, target.tables)
    return {tenant: LogStatus.read(for_tenant(target, tenant)) for tenant in tenants}


def oldest_of(target: Target) -> OldestTransaction | None:
    """Ask for the oldest open transaction."""
    with target.engine.connect() as connection:
        return oldest_transaction(connection)


def _tree(target: Target) -> TreeStatus | None:
    if target.tables.merkle_tree is None:
        return None
    with Session(target.engine) as session:
        return tree_status(session, base=target.base)


def _as_json(status: ConsumerStatus | UndeclaredCheckpoint | TreeStatus) -> dict[str, Any]:
    found = {each.name: getattr(status, each.name) for each in dataclasses.fields(status) if each.name != "model"}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in found.items()}
