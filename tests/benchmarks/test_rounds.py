"""What the harness makes of the figures, without any library: turns, medians, ratios."""

from __future__ import annotations

from contextlib import nullcontext
from uuid import UUID, uuid4

import pytest
from rich.console import Console
from rich.table import Table
from sqlalchemy import make_url

from benchmarks import sizes
from benchmarks.peers import rounds
from benchmarks.peers.contender import APPENDING, DELAY, FOLLOWING
from benchmarks.peers.rounds import Player, Results, Size, play, quantile

SIZE = Size(rounds=2, events=40, samples=6, rate_beside=1, writers=(1, 3), seconds=0.1)


class Silent:
    """Notes what it is asked to do."""

    view = "nowhere"

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def create_tables(self) -> None:
        self.log.append(f"{self.name} create")

    def append(self, lines: int) -> UUID:
        self.log.append(f"{self.name} append {lines}")
        return uuid4()

    def catch_up(self) -> None:
        self.log.append(f"{self.name} catch up")

    def rebuild(self) -> None:
        self.log.append(f"{self.name} rebuild")

    def forget(self) -> None:
        self.log.append(f"{self.name} forget")

    def follow(self) -> None:
        raise AssertionError("it is followed in another process")

    def close(self) -> None:
        pass


def player(name: str, log: list[str], *measures: str) -> Player:
    return Player(make_url("postgresql://"), frozenset(measures), lambda connections: Silent(name, log))


def shown(table: Table) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_contenders_take_turns_and_only_in_what_is_measured_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []

    def in_threads(contender: Silent, _writers: int, _seconds: float) -> float:
        log.append(f"threads {contender.name}")
        return 10.0

    def in_processes(name: str, *_: object) -> float:
        log.append(f"processes {name}")
        return 20.0

    monkeypatch.setattr(rounds, "appends_in_threads", in_threads)
    monkeypatch.setattr(rounds, "appends_in_processes", in_processes)
    monkeypatch.setattr(rounds, "delays", lambda contender, url, samples, rate: [0.001] * samples)
    monkeypatch.setattr(rounds, "following", lambda name, url: nullcontext())
    players = {"a": player("a", log, FOLLOWING, APPENDING, DELAY), "b": player("b", log, FOLLOWING)}
    results = play(players, SIZE)
    assert log[:4] == ["a append 20", "a append 20", "b append 20", "b append 20"]
    assert log[4:10] == ["a forget", "a catch up", "a rebuild", "b forget", "b catch up", "b rebuild"]
    assert [each for each in log if each.startswith("threads")] == ["threads a"] * 4
    assert [each for each in log if each.startswith("processes")] == ["processes a"] * 4
    assert results.rates["appends/s, processes: 3"] == {"a": [20.0, 20.0]}
    assert results.delays == {"a": [0.001] * 6}
    assert len(results.rates["rebuild, events/s"]["b"]) == 2


def test_some_of_it_can_be_measured_alone() -> None:
    log: list[str] = []
    results = play({"a": player("a", log, FOLLOWING, APPENDING, DELAY)}, SIZE, [FOLLOWING])
    assert set(results.rates) == {"catch-up, events/s", "rebuild, events/s"}
    assert not results.delays
    assert "visible" not in shown(results.table(["a"]))


def test_the_table_has_medians_and_the_median_of_the_ratios_in_each_round() -> None:
    results = Results()
    results.rates["appends/s"]["a"] = [100.0, 200.0, 400.0]
    results.rates["appends/s"]["b"] = [50.0, 50.0, 400.0]
    results.delays |= {"a": [0.001] * 99 + [0.050], "b": [0.002] * 98 + [0.010, 0.100]}
    text = shown(results.table(["a", "b", "c"]))
    assert "200  (1.00)" in text
    assert "50  (0.50)" in text
    assert "2.0 ms  (2.00)" in text
    assert "100.0 ms  (2.00)" in text


def test_a_quantile_of_few_values_is_one_of_them() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([3.0, 1.0, 2.0], 0.99) == 3.0


def test_sizes_are_compared_within_a_round() -> None:
    text = shown(sizes.table_of({"append": [[1.0, 2.0], [10.0, 11.0], [1.0, 1.1]]}, [10, 1_000]))
    assert "1.00 ms  (1.00)" in text
    assert "2.00 ms  (1.10)" in text
