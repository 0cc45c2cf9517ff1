"""Other code for parcels: what is replaced in the text of the deployed code, by the name of a tag, and a repository of them all."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from sa_eventsource.aggregates import books_of, definition_of
from sa_eventsource.event_log import History
from tests.replays.parcels import Parcel, ParcelSent, ParcelWeighed

REFERENCE = "tests.replays.parcels:Base"
DEPLOYED = (Path(__file__).parent / "parcels.py").read_text()
APPLIED = "        self.grams = event.grams\n"

OTHERS = {
    "same": ("", ""),
    "dearer": ("400 + event.grams // 10", "400 + event.grams // 10 + (90 if event.grams > 1_000 else 0)"),
    "renamed": ("price", "postage"),
    "raising": (APPLIED, '        if event.grams > 1_000:\n            raise ValueError("too heavy: \\u202e<b>")\n' + APPLIED),
    "endless": (APPLIED, "        while event.grams > 1_000:\n            pass\n" + APPLIED),
    "greedy": (APPLIED, "        self.much = 'x' * 10_000_000_000\n" + APPLIED),
    "crashing": (APPLIED, "        import os\n        os.abort()\n" + APPLIED),
    "leaving": (APPLIED, "        raise SystemExit(3)\n" + APPLIED),
    "loud": (APPLIED, "        print('hello')\n        __import__('os').write(1, b'hello')\n" + APPLIED),
    "curious": (APPLIED, '        import os\n        self.to = ",".join(sorted(os.environ))\n' + APPLIED),
    "unreadable": ("    grams: int\n", "    grams: int\n    scale: str\n"),
    "syntax": ("class Parcel(", "class Parcel)"),
    "settings": ('"""Parcels', 'import os\nos.environ["PARCELS_URL"]\n"""Parcels'),
    "numbered": ("AggregateRoot, Base", "AggregateRoot[int], Base"),
    "elsewhere": ('"replays.Parcel"', '"replays.Packet"'),
    "upcasting": (
        "class Parcel(",
        (
            "from sa_eventsource import upcast\n\n"
            '@upcast("replays.ParcelWeighed", from_version=1, into=(ParcelSent, ParcelWeighed))\n'
            "def split(payload):\n"
            '    return [ParcelSent(to="the scales"), ParcelWeighed(grams=payload["grams"])]\n\n'
            "class Parcel("
        ),
    ),
}
"""What is replaced, and by what."""


def code_of(name: str) -> str:
    """Give the text of other code."""
    before, after = OTHERS[name]
    text = DEPLOYED
    if name == "upcasting":
        text = text.replace(
            '__event_type__ = "replays.ParcelWeighed"', '__event_type__ = "replays.ParcelWeighed"\n    __event_version__ = 2'
        )
    return text.replace("from __future__ import annotations\n", "").replace(before, after) if before else text


def write_code(folder: Path, text: str) -> Path:
    """Write a text as the module of parcels, with its packages."""
    package = folder / "tests/replays"
    package.mkdir(parents=True, exist_ok=True)
    for each in (package.parent, package):
        (each / "__init__.py").touch()
    file = package / "parcels.py"
    file.write_text(text)
    return file


def git(folder: Path, *arguments: str) -> str:
    """Run Git, whatever its user has configured."""
    who = {f"GIT_{role}_{part}": "t@example.com" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    none = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | who | none).stdout.strip()


def make_repository(folder: Path) -> Path:
    """Make a repository with a tag for each other code, and one without any."""
    git(folder, "init", "-q", "-b", "main")
    (folder / "README").write_text("Parcels.\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "Nothing yet")
    git(folder, "tag", "empty")
    (folder / ".gitattributes").write_text("tests export-ignore\n")
    for name in OTHERS:
        write_code(folder, code_of(name))
        git(folder, "add", ".")
        git(folder, "commit", "-q", "--allow-empty", "-m", f"Parcels: {name}")
        git(folder, "tag", name)
    return folder


class Row(NamedTuple):
    """An event as a history has it."""

    version: int
    event_type: str
    event_version: int
    event_id: Any


def parcel(*grams: int) -> Parcel:
    """Send a parcel and weigh it."""
    found = Parcel(id="p-1")
    found.apply_event(ParcelSent(to="ann"))
    for each in grams:
        found.apply_event(ParcelWeighed(grams=each))
    return found


def history_of(aggregate: Parcel) -> History:
    """Make the history of a parcel that is not stored."""
    pending = books_of(aggregate).pending
    rows: list[Any] = [Row(each.version, each.event.__event_type__, 1, each.event_id) for each in pending]
    return History(definition_of(Parcel), "p-1", rows, [each.payload for each in pending], whole=True)
