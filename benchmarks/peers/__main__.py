"""Measure sa_eventsource beside its peers: ``make bench-peers``, or ``python -m benchmarks.peers`` where they are installed.

On the server whose maintenance database SA_EVENTSOURCE_TEST_URL names, or on an embedded one. Each contender gets a database of its
own, which is dropped afterwards. The table shows medians over the rounds, and in brackets the ratio to the first contender in the
same round.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version

from rich.console import Console

from benchmarks.databases import chosen_server, circumstances, own_database
from benchmarks.peers.contender import MEASURES, present
from benchmarks.peers.rounds import Player, Size, play

_LIBRARIES = ("eventsourcing", "python-event-sourcery", "psycopg2-binary")


def main() -> None:
    """Measure and print."""
    entries = present()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=20_000, help="in the log that is followed")
    parser.add_argument("--samples", type=int, default=300, help="commits whose delay is measured, in all rounds together")
    parser.add_argument("--rate", type=float, default=20, help="commits a second beside these")
    parser.add_argument("--writers", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--seconds", type=float, default=2, help="that they append in each round")
    parser.add_argument(
        "--only", nargs="+", choices=tuple(entries), default=tuple(entries), help="the first is what others are compared to"
    )
    parser.add_argument("--measures", nargs="+", choices=MEASURES, default=MEASURES)
    parser.add_argument("--durable", action="store_true", help="wait for the disk at each commit")
    arguments = parser.parse_args()
    size = Size(arguments.rounds, arguments.events, arguments.samples, arguments.rate, arguments.writers, arguments.seconds)
    with chosen_server() as server, ExitStack() as stack:
        players = {}
        for name in arguments.only:
            url = stack.enter_context(own_database(server, durable=arguments.durable))
            players[name] = Player(url, entries[name].measures, partial(entries[name].open, url))
            with players[name].open() as contender:
                contender.create_tables()
        results = play(players, size, arguments.measures)
        print(f"{circumstances(server)}; {', '.join(f'{each} {version(each)}' for each in _LIBRARIES)}")
    Console(width=200).print(results.table(arguments.only))


if __name__ == "__main__":
    main()
