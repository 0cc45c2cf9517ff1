"""``sa-eventsource adopt``: a log that was moved here from another database cluster."""

from __future__ import annotations

from typing import Annotated

import typer
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from sa_eventsource.checkpoints import adopt, cluster_identifier, read_checkpoints
from sa_eventsource.cli.done_work import DoneAsJsonOption, say_done
from sa_eventsource.cli.errors import UsageError
from sa_eventsource.cli.help_texts import example
from sa_eventsource.cli.target import BaseArgument, Target, UrlOption, open_target
from sa_eventsource.cli.times import for_people
from sa_eventsource.counting import counted
from sa_eventsource.store import database_of


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("adopt", epilog=example("adopt app.models:Base"))(adopt_log)


def adopt_log(  # noqa: PLR0913 - each is an argument or an option
    base: BaseArgument,
    *,
    url: UrlOption = None,
    last_position: Annotated[
        int | None,
        typer.Option(metavar="POSITION", show_default=False, help="The last position that was brought here; by default, all were."),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="The server's files were brought, as by pg_upgrade: keep the transaction ids.")
    ] = False,
    as_json: DoneAsJsonOption = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Settle a log that came from another database cluster, so that workers can tell again which events are new.

    A dump that was restored before anybody wrote to it needs no adopting. Otherwise, choose by how the log came here. Without
    options: by a dump or by replication, and nothing was appended here since. With --last-position: likewise, and the events after
    that position were appended here. With --keep: as the server's own files, such as by pg_upgrade.
    """
    if keep and last_position is not None:
        raise UsageError("--keep and --last-position exclude each other: either the transaction ids hold, or new ones are given")
    with open_target(base, url) as target, Session(target.engine) as session:
        if not yes:
            _explain(target, base)
            typer.confirm(f"This will {_deed(last_position, keep=keep)}. Go on?", abort=True, err=True)
        try:
            number = adopt(session, target.base, last_position=last_position, keep=keep)
        except ValueError as error:
            raise UsageError(str(error)) from error
    given = counted(number, "event was given a new transaction id", "events were given new transaction ids")
    say_done(f"done; {given}", as_json=as_json, renumbered_events=number)


def _deed(last_position: int | None, *, keep: bool) -> str:
    if keep:
        return "note this cluster in all checkpoints, and keep the transaction ids"
    upto = "the whole log" if last_position is None else f"the events up to position {last_position}"
    return f"give {upto} transaction ids that hold here, and translate all checkpoints. Writers wait until it is done"


def _explain(target: Target, base: str) -> None:
    """Show what is known of the log and its checkpoints, and which choice is right when."""
    events = target.tables.events
    with target.engine.connect() as connection:
        number, last, recorded = connection.execute(
            select(func.count(), func.max(events.c.position), func.max(events.c.recorded_at))
        ).one()
        checkpoints = read_checkpoints(connection, target.tables)
        here = "" if database_of(connection.dialect).has_one_writer else connection.scalar(select(cluster_identifier()))
    by_cluster: dict[str, list[str]] = {}
    for name, checkpoint in checkpoints:
        if checkpoint.cluster is not None:
            by_cluster.setdefault(checkpoint.cluster, []).append(f"{name} (position {checkpoint.position})")
    newest = f", the last at position {last}, recorded {for_people(recorded)}" if number else ""
    lines = [f"The log has {counted(number, 'event')}{newest}.", f"This is database cluster {here}."]
    for cluster, names in by_cluster.items():
        lines.append(f"Checkpoints of {'this cluster' if cluster == here else f'cluster {cluster}'}: {', '.join(names)}.")
    lines += [line.replace("MODULE:BASE", base) for line in _CHOICES]
    typer.echo("\n".join(lines), err=True)


_CHOICES = (
    "How did the log come here?",
    "  By a dump or by replication, and nothing was appended here since:  adopt, without options",
    "  Likewise, and events were appended here since:                     --last-position N, the last position that was brought:",
    "     that of the last event from before the move; sa-eventsource events MODULE:BASE --axis recorded --until TIME lists them",
    "  As the server's own files, such as by pg_upgrade:                  --keep",
    "Chosen wrongly, followers skip events or take some twice. If you do not know, answer no: nothing is lost meanwhile.",
)
