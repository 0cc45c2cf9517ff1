"""The brokers of this machine, and a way to take one from a publisher in the middle of its work."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

PORTS = {
    name: int(os.environ.get(f"PUBLISHING_TESTS_{name.upper()}", port))
    for name, port in {"rabbitmq": 5672, "nats": 4222, "redis": 6379}.items()
}
"""Processes that a test starts may be given others."""
HOST = "127.0.0.1"


def needs(broker: str) -> None:
    """Skip the test where a broker does not run; fail where it should."""
    try:
        socket.create_connection((HOST, PORTS[broker]), 5).close()
    except OSError:
        if os.environ.get("CI"):
            pytest.fail(f"no {broker} answers on port {PORTS[broker]}, and CI is set")
        pytest.skip(f"no {broker} answers on port {PORTS[broker]}")


class Proxy:
    """A port that leads to a broker.

    Until it is cut: then every connection is reset, and new ones are closed at once. Or until it holds what comes: then connections
    stay open, and new ones are taken, and nothing goes through, or nothing of what the broker answers.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._is_cut = False
        self._goes = {way: threading.Event() for way in ("there", "back")}
        self.let_go()
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Reset all connections, and take none until :meth:`restore`."""
        with self._lock:
            self._is_cut = True
            connections, self._open = self._open, set()
        for each in connections:
            _close(each)

    def restore(self) -> None:
        """Lead to the broker again."""
        self._is_cut = False

    def hold(self, *, answers_only: bool = False) -> None:
        """Keep what comes, until :meth:`let_go`."""
        for way in ("back",) if answers_only else ("there", "back"):
            self._goes[way].clear()

    def let_go(self) -> None:
        """Forward what was kept, and all that comes."""
        for way in self._goes.values():
            way.set()

    def close(self) -> None:
        """End."""
        self.cut()
        self.let_go()
        _close(self._listener)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._is_cut:
                    client.close()
                    continue
                server = socket.create_connection((HOST, self._target))
                self._open |= {client, server}
            for one, other, way in ((client, server, "there"), (server, client, "back")):
                threading.Thread(target=self._forward, args=(one, other, self._goes[way]), daemon=True).start()

    @staticmethod
    def _forward(one: socket.socket, other: socket.socket, goes: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                goes.wait()
                other.sendall(data)
        _close(one)
        _close(other)


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@contextmanager
def proxy(broker: str) -> Iterator[Proxy]:
    """Run a proxy before a broker."""
    found = Proxy(PORTS[broker])
    try:
        yield found
    finally:
        found.close()


def check_arrived(arrived: Sequence[tuple[str, int]], tills: Sequence[str], times: int, *, at_most: int = 0) -> int:
    """Check that nothing is lost and each stream is in order, by the first time that each message arrived.

    Args:
        arrived: The tills and the numbers of what arrived, in that order.
        tills: All tills.
        times: How many messages there are of each.
        at_most: How many repetitions are allowed.

    Returns:
        How many messages were repeated.
    """
    first = list(dict.fromkeys(arrived))
    for till in tills:
        assert [number for name, number in first if name == till] == list(range(1, times + 1)), till
    repeated = len(arrived) - len(first)
    assert repeated <= at_most
    return repeated
