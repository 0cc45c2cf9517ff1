"""``sa-eventsource new``: a small application to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sa_eventsource.cli.done_work import DoneAsJsonOption, say_done
from sa_eventsource.cli.help_texts import example
from sa_eventsource.cli.project_template import check_name, write_project
from sa_eventsource.counting import counted


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("new", epilog=example("new shop"))(new_project)


def new_project(
    name: Annotated[
        str, typer.Argument(metavar="NAME", show_default=False, help="The name of the package, and of the folder to write.")
    ],
    *,
    as_json: DoneAsJsonOption = False,
) -> None:
    """Write a small, working application into a new folder: an aggregate, a read model, tests, migrations, a worker.

    It asks nothing and installs nothing. If the folder is there already, it must be empty.
    """
    check_name(name)
    written = write_project(name, Path(name))
    text = f"wrote {counted(len(written), 'file')} to {name}/; what to do next is in {name}/README.md:"
    steps = f"  cd {name}\n  pip install --editable '.[dev]'\n  pytest"
    say_done(f"{text}\n{steps}", as_json=as_json, folder=name, files=written)
