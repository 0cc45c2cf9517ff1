"""``sa-eventsource heads``, ``prove``, ``check-proof`` and ``public-keys``: what shows others that the log is what it was."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID  # noqa: TC003 - typer reads it

import typer
from sqlalchemy.orm import Session

from sa_eventsource.cli.errors import UsageError
from sa_eventsource.cli.help_texts import example
from sa_eventsource.cli.output import Output
from sa_eventsource.cli.target import BaseArgument, UrlOption, import_named, open_target, tables_of
from sa_eventsource.cli.times import for_people
from sa_eventsource.exceptions import ProofError
from sa_eventsource.integrity import (
    ExtensionProof,
    Head,
    InclusionProof,
    known_public_keys,
    newest_head,
    proofs_on,
    prove,
    prove_extension,
    public_keys,
    timestamp_request,
    timestamped_at,
    with_timestamp,
    written_public_keys,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

_PATIENCE = 30.0
"""Seconds for an authority to answer."""

HeadOption = Annotated[
    Path | None, typer.Option("--head", metavar="FILE", show_default=False, help="A head that was kept elsewhere.")
]
PublicKeyOption = Annotated[
    Path | None,
    typer.Option(
        "--public-key",
        metavar="FILE",
        show_default=False,
        help="A file with the public keys of those who sign heads, one id:key per line.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("heads", epilog=example("heads app.models:Base --since head-of-monday.json"))(show_head)
    app.command("prove", epilog=example("prove app.models:Base $EVENT_ID"))(prove_event)
    app.command("check-proof", epilog=example("check-proof proof.json --head head.json"))(check_proof)
    app.command("public-keys", epilog=example("public-keys app.models:Base"))(show_public_keys)


def read_heads(paths: Iterable[Path]) -> list[Head]:
    """Read heads from files; of a proof, the one that it leads to."""
    found = [_read_json(each) for each in paths]
    return [Head.from_json(each.get("head", each) if isinstance(each, dict) else each) for each in found]


def read_head(path: Path | None) -> Head | None:
    """Read a head from a file; None where none is named."""
    return None if path is None else read_heads([path])[0]


def read_public_keys(path: Path | None) -> dict[str, bytes] | None:
    """Read public keys from a file; None where none is named."""
    return None if path is None else public_keys(path.read_text(encoding="utf-8"), f"the file {path}")


def show_head(
    base: BaseArgument,
    *,
    url: UrlOption = None,
    since: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", show_default=False, help="An earlier head: print the proof that leads from it to the newest one."
        ),
    ] = None,
    time_stamp: Annotated[
        str | None,
        typer.Option(
            metavar="URL", show_default=False, help="Let the time-stamping authority (RFC 3161) at this URL stamp the head."
        ),
    ] = None,
) -> None:
    """Print the newest head of the log, as JSON; keep it where those who can write to the database cannot.

    With --since, print the proof that leads from an earlier head to the newest one.
    """
    former = read_head(since)
    with open_target(base, url) as target, Session(target.engine) as session:
        if former is not None:
            found: Head | ExtensionProof | None = prove_extension(session, former, base=target.base)
        else:
            found = newest_head(session, base=target.base)
    if found is None:
        raise ProofError("the log", "no event is in the tree yet; a worker puts them there")
    if time_stamp is not None:
        head = found.head if isinstance(found, ExtensionProof) else found
        stamped = with_timestamp(head, _asked(time_stamp, timestamp_request(head)))
        found = replace(found, head=stamped) if isinstance(found, ExtensionProof) else stamped
    _print_json(found.to_json())


def prove_event(
    base: BaseArgument,
    event_id: Annotated[UUID, typer.Argument(metavar="EVENT_ID", show_default=False, help="The event.")],
    *,
    head: HeadOption = None,
    url: UrlOption = None,
) -> None:
    """Print the proof that an event is in the log, as JSON; checking it needs no database.

    The proof leads to the newest head, or with --head to one that the person who checks it already has.
    """
    against = read_head(head)
    with open_target(base, url) as target, Session(target.engine) as session:
        _print_json(prove(session, event_id, head=against, base=target.base).to_json())


def check_proof(
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False, help="A file with what prove or heads printed.")],
    *,
    head: HeadOption = None,
    public_key: PublicKeyOption = None,
    time_stamp_root: Annotated[
        Path | None,
        typer.Option(metavar="FILE", show_default=False, help="Root certificates, in PEM, of the authority that stamped the head."),
    ] = None,
) -> None:
    """Check a proof without the database; print the event that it proves, or the head that follows from the earlier one.

    The exit status is 1 if the proof does not hold. Without --head or --public-key, the check says only that the event and the head
    belong together, and not who made the head.
    """
    found, trusted, keys = _read_json(file), read_head(head), read_public_keys(public_key)
    kind = found.get("format") if isinstance(found, dict) else None
    if kind == InclusionProof.FORMAT:
        proof = InclusionProof.from_json(found)
        proven: Any = proof.check(trusted, keys)
        shown = trusted or proof.head
    elif kind == ExtensionProof.FORMAT:
        shown = ExtensionProof.from_json(found).check(trusted, keys)
        proven = shown.to_json()
    else:
        shown = Head.from_json(found)
        if keys is None and time_stamp_root is None:
            raise UsageError(f"{file} is a head: check its signature with --public-key, or a proof against it with --head")
        if keys is not None:
            shown.check_signature(keys)
        proven = found
    stamped = "" if time_stamp_root is None else f"; stamped {for_people(timestamped_at(shown, time_stamp_root.read_bytes()))}"
    by = f", signed with the key {shown.key_id!r}" if keys is not None else ""
    trust = "" if trusted is not None or keys is not None else "; who made that head is unknown: pass --head or --public-key"
    _print_json(proven)
    typer.echo(f"the proof holds for {shown.name} of {for_people(shown.made_at)}{by}{stamped}{trust}", err=True)


def show_public_keys(base: BaseArgument) -> None:
    """Print the public keys that belong to the base's signing keys, for those who check heads; this needs no database."""
    found = import_named(base, "a declarative base")
    keys = known_public_keys(proofs_on(tables_of(found, base)).signing_key)
    if keys is None:
        raise UsageError("the base has no signing key whose public key is known here")
    Output().line(written_public_keys(keys).rstrip("\n"))


def _asked(url: str, request: bytes) -> bytes:
    """Send a request to a time-stamping authority."""
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"{url!r} is not the URL of a time-stamping authority, which begins with https:// or http://")
    query = urllib.request.Request(url, request, {"Content-Type": "application/timestamp-query"})  # noqa: S310 - checked above
    with urllib.request.urlopen(query, timeout=_PATIENCE) as response:  # noqa: S310 - likewise
        answer: bytes = response.read()
    return answer


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ProofError(f"what is in the file {path}", f"it is not JSON: {error}") from error


def _print_json(found: Any) -> None:
    Output().line(json.dumps(found, indent=2, ensure_ascii=False))
