"""What a piece of work takes: on the wall's clock, and of the processor, here and in the server."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection


@dataclass
class Cost:
    """What something took, in seconds; of the processor in this process, and in the server's that the connection talks to."""

    wall: float = 0.0
    here: float = 0.0
    server: float = 0.0

    def row(self, what: str, events: int) -> tuple[str, ...]:
        """Write it as a row of a table."""
        here, server = self.here / events * 1e6, self.server / events * 1e6
        return what, f"{events / self.wall:,.0f} events/s", f"{here:.1f} µs", f"{server:.1f} µs", f"{os.getloadavg()[0]:.1f}"


@contextmanager
def measured(connection: Connection) -> Iterator[Cost]:
    """Measure a block."""
    driver: Any = connection.connection.driver_connection
    try:
        server = psutil.Process(driver.info.backend_pid)
    except psutil.NoSuchProcess:  # on another machine
        server = psutil.Process()
    cost = Cost(-time.perf_counter(), -time.process_time(), -sum(server.cpu_times()[:2]))
    yield cost
    cost.wall += time.perf_counter()
    cost.here += time.process_time()
    cost.server += sum(server.cpu_times()[:2])
