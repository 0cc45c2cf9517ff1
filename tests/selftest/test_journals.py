"""What a process notes is there when it is killed the moment after, and what it did not finish noting does no harm."""

from __future__ import annotations

from pathlib import Path

from sa_eventsource.selftest.journal import Journal, Journals


def test_a_transaction_whose_writer_was_killed_is_unknown(tmp_path: Path) -> None:
    with Journal(tmp_path / "writer.journal") as journal:
        journal.note("begun", "w.0", 2, 1)
        journal.note("ended", "w.0", "committed")
        journal.note("begun", "w.1", 1, 0)
    with (tmp_path / "writer.journal").open("ab") as file:
        file.write(b'["ended", "w.1", "comm')
    found = Journals.read(tmp_path)
    assert {name: each.outcome for name, each in found.transactions.items()} == {"w.0": "committed", "w.1": "unknown"}
    assert found.transactions["w.0"].marks == ["w.0/0", "w.0/1"]
    assert found.transactions["w.0"].undone_marks == ["w.0/undone/0"]
