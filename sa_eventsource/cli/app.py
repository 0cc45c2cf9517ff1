"""The application: its options, and the modules that bring its commands."""

from __future__ import annotations

from importlib import metadata
from typing import Annotated

import typer

from sa_eventsource.cli import (
    adopt,
    anonymise_command,
    archive_commands,
    browse_command,
    events,
    export_import,
    handled_commands,
    new_command,
    parked,
    personal_data_commands,
    proof_commands,
    publish_command,
    rebuild_command,
    rewind_command,
    roles_command,
    run,
    schema_command,
    selftest_command,
    show,
    status_command,
    verify,
)
from sa_eventsource.cli.errors import ReportingGroup
from sa_eventsource.cli.help_texts import let_paragraphs_flow
from sa_eventsource.store import tenant_context

app = typer.Typer(
    name="sa-eventsource",
    cls=ReportingGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # errors are reported in one place, as one line
    help="Run what follows an event log, look into the log, and move it: the command line of sa_eventsource.",
)

_PANELS = {
    "Begin, and change what is stored": (new_command, schema_command),
    "Follow the log": (run, publish_command, status_command, rebuild_command, rewind_command, parked, handled_commands),
    "Look into the log": (events, show, browse_command),
    "Check": (verify, proof_commands, roles_command, selftest_command),
    "Move the log": (export_import, adopt),
    "Forget, and archive": (personal_data_commands, anonymise_command, archive_commands),
}
"""The commands, under the headings of ``sa-eventsource --help``."""

for heading, modules in _PANELS.items():
    for module in modules:
        module.register(app)
    for command in app.registered_commands:
        command.rich_help_panel = command.rich_help_panel or heading
    for group in app.registered_groups:
        group.rich_help_panel = group.rich_help_panel or heading
let_paragraphs_flow(app)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer's signature
    if wanted:
        typer.echo(f"sa_eventsource {metadata.version('sa_eventsource')}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an error was raised, instead of one line.")] = False,
    tenant: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            envvar="SA_EVENTSOURCE_TENANT",
            show_default=False,
            show_envvar=True,
            help="The tenant whose rows the command is about, where tenants share the tables.",
        ),
    ] = None,
) -> None:
    """Take the options that come before the command."""
    if tenant is not None:
        context.with_resource(tenant_context(tenant))
