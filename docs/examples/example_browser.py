"""The event browser at the end of an example, for those who sit at a terminal."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rich.text import Text

from sa_eventsource.browser.standalone import serve

if TYPE_CHECKING:
    from rich.console import Console
    from sqlalchemy import Engine


def browse(base: Any, engine: Engine, console: Console, *, title: str) -> None:
    """Serve the browser on what an example has left, and print its address, until Ctrl-C."""

    def announce(address: str) -> None:
        console.print(Text.assemble("Look at it: ", (address, "bold cyan"), "  (Ctrl-C ends it, and the server with it)"))

    with suppress(KeyboardInterrupt):
        serve(
            base,
            engine,
            host="127.0.0.1",
            port=None,
            title=title,
            tenant=None,
            personal_data=False,
            actions=False,
            announce=announce,
        )
