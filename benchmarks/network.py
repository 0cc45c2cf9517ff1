"""Commits over a network: ``python -m benchmarks.network [--delays 0 0.5 2] [--rounds N]``.

A proxy in a process of its own holds each packet back for so many milliseconds, in each direction. What counts is the number of
round trips: the time beyond that without a delay, divided by the time that ``SELECT 1`` takes beyond that without a delay.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
from rich.console import Console
from rich.table import Table
from sqlalchemy import create_engine

from benchmarks.__main__ import CASES as ALL_CASES
from benchmarks.__main__ import timed
from benchmarks.contenders import Contender, PlainOrm, RawPipeline, RawPsycopg, SaEventsource
from benchmarks.databases import chosen_server, circumstances, own_database
from benchmarks.domain import Base

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from sqlalchemy import URL

TRIP = ("one round trip", "")
CASES = {"new aggregate": ALL_CASES["a"], "100 events in one commit": ALL_CASES["d"], "load, change, save": ALL_CASES["b"]}


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    try:
        while data := await reader.read(65536):
            loop.call_later(seconds, writer.write, data)
    finally:
        loop.call_later(seconds, writer.close)


async def _serve(server: tuple[str, int], milliseconds: float, port: Connection) -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await (
            asyncio.open_unix_connection(f"{server[0]}/.s.PGSQL.{server[1]}")
            if server[0].startswith("/")
            else asyncio.open_connection(*server)
        )
        seconds = milliseconds / 1000
        await asyncio.gather(_forward(reader, to_writer, seconds), _forward(to_reader, writer, seconds))

    listening = await asyncio.start_server(accept, "127.0.0.1", 0)
    port.send(listening.sockets[0].getsockname()[1])
    await listening.serve_forever()


def _run(server: tuple[str, int], milliseconds: float, port: Connection) -> None:
    asyncio.run(_serve(server, milliseconds, port))


@contextmanager
def delayed(url: URL, milliseconds: float) -> Iterator[URL]:
    """Give the URL of a proxy before a server, which holds back what passes, in each direction."""
    with psycopg.connect(url.set(drivername="postgresql").render_as_string(hide_password=False)) as connection:
        server = connection.info.host, connection.info.port
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(server, milliseconds, sending), daemon=True)
    process.start()
    try:
        query = {name: value for name, value in url.query.items() if name != "host"}
        yield url.set(host="127.0.0.1", port=receiving.recv(), query=query)
    finally:
        process.terminate()
        process.join()


def times(url: URL, rounds: int) -> dict[tuple[str, str], float]:
    """Measure each contender in each case, taking turns: seconds a commit, medians."""
    engine = create_engine(url)
    dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
    pipelined = create_engine(url.set(drivername="postgresql+psycopg_pipelined"))
    contenders: list[Contender] = [
        RawPsycopg(dsn),
        RawPipeline(dsn),
        PlainOrm(engine),
        SaEventsource(engine),
        PlainOrm(pipelined, "plain ORM, pipelined"),
        SaEventsource(pipelined, "sa_eventsource, pipelined"),
    ]
    found: dict[tuple[str, str], list[float]] = {}
    with psycopg.connect(dsn, autocommit=True) as connection:
        found[TRIP] = [timed(lambda: connection.execute("SELECT 1"), 100) for _ in range(rounds)]
    for number in range(rounds + 1):
        for case, measure in CASES.items():
            for contender in contenders:
                seconds = measure(contender, 1)
                if number:  # the first warms up
                    found.setdefault((case, contender.name), []).append(seconds)
    engine.dispose()
    pipelined.dispose()
    return {which: statistics.median(seconds) for which, seconds in found.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delays", type=float, nargs="+", default=[0, 0.5, 2], help="milliseconds in each direction")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with chosen_server() as server, own_database(server, durable=False) as url:
        Console().print(circumstances(server))
        engine = create_engine(url)
        Base.metadata.create_all(engine)
        engine.dispose()
        results = {}
        for delay in arguments.delays:
            with delayed(url, delay) as through:
                results[delay] = times(through, arguments.rounds)
        table = Table("case", "who", *(f"{delay:g} ms each way (round trips)" for delay in arguments.delays))
        none = results[arguments.delays[0]]
        for which, base in none.items():
            cells = [f"{results[delay][which] * 1000:.2f} ms" for delay in arguments.delays]
            for number, delay in enumerate(arguments.delays):
                if delay > arguments.delays[0]:
                    trips = (results[delay][which] - base) / (results[delay][TRIP] - none[TRIP])
                    cells[number] += f"  ({trips:.1f})"
            table.add_row(*which, *cells)
        Console().print(table)


if __name__ == "__main__":
    main()
