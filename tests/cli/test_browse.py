"""``sa-eventsource browse``: the event browser on a port of this machine."""

from __future__ import annotations

import re
import signal
import socket

import httpx
import pytest
from sqlalchemy import Engine

from tests.cli.commands import BASE, fail, start


def test_it_prints_its_address_shows_the_log_and_ends_on_an_interrupt(sqlite_log: Engine) -> None:
    process = start("browse", BASE, engine=sqlite_log)
    assert process.stdout is not None
    said = process.stdout.readline()
    address = re.findall(r"the events are at (http://127\.0\.0\.1:\d+)/ ", said)[0]
    page = httpx.get(f"{address}/log")
    assert page.status_code == 200
    assert "shop.OrderPaid" in page.text
    assert httpx.get(f"{address}/log", headers={"Host": "evil.example"}).status_code == 400
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")


def test_a_port_that_is_taken_is_named(sqlite_log: Engine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = fail("browse", BASE, "--port", str(port), engine=sqlite_log, status=1)
    assert "in use" in said


def test_streams_are_replayed_by_the_code_that_was_named(sqlite_log: Engine) -> None:
    process = start(
        "browse", BASE, "--other-code", "HEAD", "--source-link", "https://git.example/{path}#L{line}", engine=sqlite_log
    )
    assert process.stdout is not None
    address = re.findall(r"the events are at (http://127\.0\.0\.1:\d+)/ ", process.stdout.readline())[0]
    stream = re.findall(r'class="stream" href="/stream\?([^"]+)&amp;version', httpx.get(f"{address}/log").text)[0].replace(
        "&amp;", "&"
    )
    page = httpx.get(f"{address}/stream?{stream}").text
    assert 'href="https://git.example/tests/bank.py#L' in page
    assert '<option value="HEAD">' in httpx.get(f"{address}/stream/code?{stream}").text
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[1] == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--other-code", "./nowhere"], "there is no folder"),
        (["--code-variable", "A=1"], "pass --other-code or --any-revision too"),
        (["--any-revision", "--code-variable", "A"], "write NAME=VALUE"),
        (["--source-link", "{row}"], "write {path} and {line}"),
        (["--source-link", "https://git.example"], "write {path} where"),
        (["--source-link", ""], "write {path} where"),
    ],
)
def test_impossible_options_are_named(sqlite_log: Engine, options: list[str], message: str) -> None:
    assert message in fail("browse", BASE, *options, engine=sqlite_log, status=2)


def test_a_revision_that_is_not_there_is_named_at_the_start(sqlite_log: Engine) -> None:
    said = fail("browse", BASE, "--other-code", "no-such-revision", engine=sqlite_log, status=1)
    assert "no-such-revision" in said
    assert "there is no such revision in the Git repository" in said
