"""Heads are time-stamped by an authority outside: here one that OpenSSL is, without a network."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from sqlalchemy import Engine

from sa_eventsource.exceptions import ProofError
from sa_eventsource.integrity import Head, timestamp_request, timestamped_at, with_timestamp
from tests.cli.commands import call, fail, succeed
from tests.integrity.proven_log import BASE, fill, grow

if "CI" not in os.environ:
    pytest.importorskip("rfc3161_client", reason="the extra timestamps is not installed")

_CONFIGURATION = """
[tsa]
default_tsa = authority
[authority]
dir = .
serial = ./serial
crypto_device = builtin
signer_cert = ./tsa.pem
signer_key = ./tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
[stamping]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,timeStamping
[root]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
"""


@dataclass(frozen=True)
class Authority:
    """A time-stamping authority in a folder."""

    folder: Path

    @classmethod
    def found(cls, folder: Path) -> Authority:
        folder.mkdir()
        made = cls(folder)
        (folder / "tsa.cnf").write_text(_CONFIGURATION)
        (folder / "serial").write_text("01\n")
        key = ("-newkey", "rsa:2048", "-nodes", "-config", "/dev/null")
        made.openssl(
            "req", "-x509", *key, "-keyout", "root.key", "-out", "root.pem", "-subj", "/CN=Test Root", "-days", "2",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign",
        )  # fmt: skip
        made.openssl("req", *key, "-keyout", "tsa.key", "-out", "tsa.csr", "-subj", "/CN=Test TSA")
        made.openssl(
            "x509", "-req", "-in", "tsa.csr", "-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial", "-out", "tsa.pem",
            "-days", "2", "-extfile", "tsa.cnf", "-extensions", "stamping",
        )  # fmt: skip
        return made

    def openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

    def answer(self, request: bytes) -> bytes:
        (self.folder / "request.tsq").write_bytes(request)
        self.openssl(
            "ts", "-reply", "-config", "tsa.cnf", "-section", "authority", "-queryfile", "request.tsq", "-out", "answer.tsr"
        )
        return (self.folder / "answer.tsr").read_bytes()

    @property
    def roots(self) -> bytes:
        return (self.folder / "root.pem").read_bytes()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.found(tmp_path_factory.mktemp("authorities") / "one")


HEAD = Head(tree_size=3, root=b"r" * 32, positions_hash=b"p" * 32, made_at=datetime(2026, 5, 4, tzinfo=UTC))


def test_a_head_is_stamped_and_kept_with_its_stamp(authority: Authority) -> None:
    stamped = with_timestamp(HEAD, authority.answer(timestamp_request(HEAD)))
    kept = Head.from_json(stamped.to_json())
    assert kept == stamped
    assert abs(timestamped_at(kept, authority.roots) - datetime.now(UTC)) < timedelta(minutes=5)


def test_a_stamp_is_for_one_head_alone(authority: Authority) -> None:
    stamped = with_timestamp(replace(HEAD, tree_size=4), authority.answer(timestamp_request(HEAD)))
    with pytest.raises(ProofError, match="its time stamp does not hold: Mismatch between messages"):
        timestamped_at(stamped, authority.roots)


def test_another_authority_is_not_trusted(authority: Authority, tmp_path: Path) -> None:
    other = Authority.found(tmp_path / "other")
    stamped = with_timestamp(HEAD, other.answer(timestamp_request(HEAD)))
    with pytest.raises(ProofError, match="its time stamp does not hold"):
        timestamped_at(stamped, authority.roots)
    assert timestamped_at(stamped, other.roots)


@pytest.mark.parametrize("response", [b"", b"no response"])
def test_what_is_no_stamp_is_refused(response: bytes, authority: Authority) -> None:
    with pytest.raises(ProofError, match="its time stamp does not hold"):
        timestamped_at(with_timestamp(HEAD, response), authority.roots)


def test_a_head_without_a_stamp_says_so(authority: Authority) -> None:
    with pytest.raises(ProofError, match="it has no time stamp"):
        timestamped_at(HEAD, authority.roots)


def test_heads_are_stamped_on_the_command_line(sqlite_engine: Engine, authority: Authority, tmp_path: Path) -> None:
    fill(sqlite_engine, 3)
    grow(sqlite_engine)
    head, root, keys = tmp_path / "head.json", tmp_path / "root.pem", tmp_path / "keys"
    root.write_bytes(authority.roots)
    with answering(authority) as url:
        head.write_text(succeed("heads", BASE, "--time-stamp", url, engine=sqlite_engine).stdout)
    checked = call("check-proof", str(head), "--time-stamp-root", str(root))
    assert checked.exit_code == 0, checked.output
    assert "; stamped 20" in checked.stderr
    keys.write_text(call("public-keys", BASE).stdout)
    assert call("check-proof", str(head), "--public-key", str(keys)).exit_code == 0, "a stamp changes nothing that is signed"
    assert "is not the URL of a time-stamping authority" in fail(
        "heads", BASE, "--time-stamp", "file:///", engine=sqlite_engine, status=2
    )


@contextmanager
def answering(authority: Authority) -> Iterator[str]:
    """Have an authority answer on this machine: its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["Content-Type"] == "application/timestamp-query"
            answer = authority.answer(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
            """Be silent."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
