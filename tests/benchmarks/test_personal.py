"""The benchmark of personal data measures what it says: events with marks and without them, appended, loaded and read."""

from __future__ import annotations

from sqlalchemy import Engine, text

from benchmarks.personal import Base, Bench, OneField, PlainContact, TwoFields, compared


def test_events_are_the_same_but_for_their_marks(postgres_engine: Engine) -> None:
    Base.metadata.create_all(postgres_engine)
    bench = Bench(postgres_engine, 3)
    for event_class in (PlainContact, OneField, TwoFields):
        bench.append(event_class, times=2)()
        bench.load(event_class, 2)()
        bench.read(event_class)()
    with postgres_engine.connect() as connection:
        counted = (
            "SELECT event_type, count(*), sum((length(event_data::text) - length(replace(event_data::text, '$sealed', ''))) / 7)"
        )
        found = connection.execute(text(f"{counted} FROM events GROUP BY 1 ORDER BY 3")).all()
    assert [(name.rpartition(".")[2], events, sealed) for name, events, sealed in found] == [
        ("PlainContact", 8, 0),
        ("OneField", 8, 8),
        ("TwoFields", 8, 16),
    ]
    rounds = compared(bench.load(PlainContact, 1), bench.load(OneField, 1), 2)
    assert len(rounds) == 2
    assert all(each.wall > 0 and each.here > 0 for each in rounds)
