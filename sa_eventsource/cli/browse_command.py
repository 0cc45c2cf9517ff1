"""``sa-eventsource browse``: the event browser, on a port of this machine."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer

from sa_eventsource.cli.code_options import CodeVariableOption, named_code
from sa_eventsource.cli.errors import UsageError
from sa_eventsource.cli.help_texts import example
from sa_eventsource.cli.target import BaseArgument, UrlOption, open_target
from sa_eventsource.extras import needs_extra
from sa_eventsource.replays import check_link_form
from sa_eventsource.store import current_tenant


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("browse", epilog=example("browse app.models:Base"))(browse)


def browse(  # noqa: PLR0913 - each is an option
    base: BaseArgument,
    *,
    url: UrlOption = None,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", help="Where to listen. Whoever reaches it may look, and do what --actions and --other-code allow."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, metavar="N", show_default=False, help="The port; by default 8477, or another if it is taken."
        ),
    ] = None,
    personal_data: Annotated[bool, typer.Option("--personal-data", help="Show personal data, instead of placeholders.")] = False,
    actions: Annotated[bool, typer.Option("--actions", help="Allow actions, such as retrying parked events.")] = False,
    source_link: Annotated[
        str | None,
        typer.Option(
            metavar="FORM", show_default=False, help="Link methods to their source: https://git.example/shop/{path}#L{line}."
        ),
    ] = None,
    other_code: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CODE",
            show_default=False,
            help="Code that may replay streams: a Git revision, ./folder, or module=./file.py. Repeat it for more.",
        ),
    ] = None,
    any_revision: Annotated[
        bool, typer.Option("--any-revision", help="Let readers name any Git revision of this folder's repository.")
    ] = False,
    code_variable: CodeVariableOption = None,
) -> None:
    """Look at the log in a web browser, until Ctrl-C.

    The address is printed. Nothing is written, unless --actions is given.
    """
    standalone = _standalone()
    code = named_code(base, other_code or [], code_variable, any_revision=any_revision) if other_code or any_revision else None
    if code is None and code_variable:
        raise UsageError("--code-variable is for other code; pass --other-code or --any-revision too")
    if source_link is not None:
        try:
            check_link_form(source_link)
        except ValueError as error:
            raise UsageError(f"--source-link: {error}") from error
    if code is not None:
        code.require_revisions()
    with open_target(base, url, masks=True) as target:
        standalone.serve(
            target.base,
            target.engine,
            host=host,
            port=port,
            title=base.partition(":")[0].partition(".")[0],
            tenant=current_tenant(),
            personal_data=personal_data,
            actions=actions,
            source_link=source_link,
            other_code=code,
            announce=_announce,
        )


def _announce(address: str) -> None:
    typer.echo(f"the events are at {address} (Ctrl-C ends it)")


def _standalone() -> Any:
    """Import what the extra brings, which the other commands do without."""
    with needs_extra("browser", part="sa-eventsource browse"):
        return import_module("sa_eventsource.browser.standalone")
