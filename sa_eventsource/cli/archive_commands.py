"""``sa-eventsource archive``, ``compact``, ``unarchive`` and ``archived``: closed streams out of the log, and back."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from sqlalchemy.orm import Session

from sa_eventsource.archives import archive, archived_streams, compact, unarchive, unneeded_archive_files
from sa_eventsource.cli.done_work import say_none
from sa_eventsource.cli.errors import UsageError, checked_arguments
from sa_eventsource.cli.help_texts import example
from sa_eventsource.cli.named_aggregates import named_aggregate, named_id
from sa_eventsource.cli.output import Output
from sa_eventsource.cli.target import BaseArgument, UrlOption, open_target
from sa_eventsource.cli.times import for_people
from sa_eventsource.counting import counted
from sa_eventsource.events import event_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from sa_eventsource.archives import Archive

TypeArgument = Annotated[str, typer.Argument(metavar="TYPE", show_default=False, help="The aggregates' type.")]
IdsArgument = Annotated[list[str], typer.Argument(metavar="ID...", show_default=False, help="Their ids.")]
ReasonOption = Annotated[
    str, typer.Option(metavar="TEXT", show_default=False, help="The reason, for the manifest, which is kept for good.")
]
UserOption = Annotated[str | None, typer.Option(metavar="NAME", help="Who does it, for the manifest.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Change nothing, and say what would be done, or why it cannot be.")]
DirectoryOption = Annotated[
    str | None,
    typer.Option(
        metavar="DIR", show_default=False, help="Write each stream to a Parquet file in this folder; needs the extra parquet."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, one line per archive.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("archive", epilog=example("archive app.models:Base Order o-1 --reason retention"))(archive_streams)
    app.command("compact", epilog=example("compact app.models:Base Order o-1 --reason delivered"))(compact_streams)
    app.command("unarchive", epilog=example("unarchive app.models:Base Order o-1 --reason audit"))(unarchive_streams)
    app.command("archived", epilog=example("archived app.models:Base"))(list_archives)


def archive_streams(  # noqa: PLR0913 - by keyword
    base: BaseArgument,
    aggregate_type: TypeArgument,
    aggregate_ids: IdsArgument,
    *,
    reason: ReasonOption,
    user: UserOption = None,
    directory: DirectoryOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Take closed streams out of the log, each in its own transaction.

    Their events go to a table next to the log, or to files, with a manifest. Until unarchive brings them back, queries, exports,
    rebuilds and rows of read models leave them out. The application and workers may run. The command ends at the first stream that
    cannot be archived.
    """
    function = partial(archive, directory=directory)
    _move(function, "archived", base, aggregate_type, aggregate_ids, reason, user, url, dry_run=dry_run, as_json=as_json)


def compact_streams(  # noqa: PLR0913 - by keyword
    base: BaseArgument,
    aggregate_type: TypeArgument,
    aggregate_ids: IdsArgument,
    *,
    reason: ReasonOption,
    user: UserOption = None,
    directory: DirectoryOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Archive closed streams but keep their last states, each in its own transaction.

    This is like archive, except that the aggregates can still be loaded, in their last states. For streams that are already
    archived or compacted, the last state is computed again. The application and workers may run. The command ends at the first
    stream that cannot be compacted.
    """
    function = partial(compact, directory=directory)
    _move(function, "compacted", base, aggregate_type, aggregate_ids, reason, user, url, dry_run=dry_run, as_json=as_json)


def unarchive_streams(  # noqa: PLR0913 - by keyword
    base: BaseArgument,
    aggregate_type: TypeArgument,
    aggregate_ids: IdsArgument,
    *,
    reason: ReasonOption,
    user: UserOption = None,
    despite_anonymisations: Annotated[
        bool,
        typer.Option("--despite-anonymisations", help="Bring back even what an anonymisation has missed; then anonymise again."),
    ] = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Bring archived streams back into the log, each in its own transaction; they stay closed.

    A stream is refused if its archive was altered, or if an anonymisation has not reached it. The application and workers may run.
    Archive files stay where they are, and can be deleted afterwards.
    """
    function = partial(unarchive, despite_anonymisations=despite_anonymisations)
    _move(function, "brought back", base, aggregate_type, aggregate_ids, reason, user, url, dry_run=dry_run, as_json=as_json)


def list_archives(
    base: BaseArgument,
    *,
    returned: Annotated[bool, typer.Option("--returned", help="Include those whose events are back in the log.")] = False,
    unneeded: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", show_default=False, help="Instead, list the files in this folder that no archived stream needs."
        ),
    ] = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """List the streams that are archived, the oldest archive first."""
    if returned and unneeded is not None:
        raise UsageError("--returned lists archives, and --unneeded lists files: give one of them")
    with open_target(base, url) as target, Session(target.engine) as session:
        if unneeded is not None:
            files = unneeded_archive_files(session, unneeded, base=target.base)
            for path in files:
                typer.echo(json.dumps(str(path)) if as_json else path)
            if not files and not as_json:
                say_none(f"no unneeded file in {unneeded}")
            return
        found = archived_streams(session, base=target.base, returned=returned)
    if not found and not as_json:
        say_none("no archived stream")
    _print(found, as_json=as_json)


def _move(  # noqa: PLR0913, PLR0917 - what both commands take
    function: Callable[..., Archive],
    done: str,
    base: str,
    aggregate_type: str,
    aggregate_ids: list[str],
    reason: str,
    user: str | None,
    url: str | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    to_rebuild: dict[str, None] = {}
    with open_target(base, url) as target, nullcontext() if user is None else event_context(user=user):
        definition = named_aggregate(target.tables, aggregate_type)
        for aggregate_id in [named_id(definition, each) for each in aggregate_ids]:
            with Session(target.engine) as session, checked_arguments():
                found = function(session, definition.aggregate_class, aggregate_id, reason=reason, dry_run=dry_run)
                session.commit()
            to_rebuild |= dict.fromkeys(found.models_to_rebuild)
            _print([found], as_json=as_json)
    typer.echo(f"{counted(len(aggregate_ids), 'stream')} {'would be ' if dry_run else ''}{done}", err=True)
    for name in to_rebuild:
        typer.echo(f"{name} has @handles methods: run sa-eventsource rebuild {base} {name}", err=True)


def _print(found: list[Archive], *, as_json: bool) -> None:
    output = Output()
    for each in found:
        if as_json:
            output.line(json.dumps(asdict(each), ensure_ascii=False, default=str))
        else:
            since = for_people(each.archived_at)
            state = ", last state kept" if each.is_compacted else ""
            what = f"{counted(each.events, 'event')} in {each.place}, since {since}{state}: {each.reason} (sha256 {each.sha256})"
            output.styled((f"{each.aggregate_type} {each.aggregate_id}: ", "bold"), (what, ""))
            if each.returned_at is not None:
                output.styled((f"  back in the log since {for_people(each.returned_at)}", ""))
    output.flush()
