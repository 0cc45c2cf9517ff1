"""Streams replayed by other code: what it gets, what it gives, and what becomes of code that is not there, or does not end."""

from __future__ import annotations

import gc
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from sa_eventsource import OtherCodeError
from sa_eventsource.events import stored_types
from sa_eventsource.replays import Divergence, OtherCode, Replay
from sa_eventsource.replays.checkouts import Checkouts
from tests.replays.other_parcels import REFERENCE, code_of, git, history_of, parcel, write_code
from tests.replays.parcels import ParcelWeighed

SECONDS = 120.0
ALL = range(100)


def other(*names: str, **options: Any) -> OtherCode:
    """Name other code for parcels."""
    return OtherCode(REFERENCE, names, **{"seconds": SECONDS, **options})


def replayed(repository: Path, name: str, *grams: int, **options: Any) -> tuple[Replay, Replay, Divergence]:
    """Replay a parcel by the deployed code and by that of a tag."""
    here, there = other(name, repository=repository, **options).compare(name, history_of(parcel(*grams)), ALL)
    return here, there, Divergence.between(here, there)


def state(replay: Replay, version: int) -> Any:
    """Give the state at a version."""
    step = replay.at(version)
    return None if step is None else step.state


def test_the_same_code_gives_the_same_states(repository: Path) -> None:
    here, there, divergence = replayed(repository, "same", 500, 2_000)
    assert here.steps == [*there.steps]
    assert (divergence.differences, divergence.last) == ([], 3)
    assert there.origin.endswith(": Parcels: same")
    assert state(there, 3) == {"to": '"ann"', "grams": "2000", "price": "600"}
    assert [each.name for each in there.steps[2].applied] == ["Parcel._weighed"]
    assert there.steps[2].applied[0].path == "tests/replays/parcels.py"


def test_states_part_where_a_rule_differs_and_may_meet_again(repository: Path) -> None:
    _, there, divergence = replayed(repository, "dearer", 500, 2_000, 3_000, 500, 2_000)
    assert [(each.field, each.first, each.last) for each in divergence.differences] == [("price", 3, 4), ("price", 6, 6)]
    assert (divergence.parted, divergence.after(3), divergence.before(6), divergence.after(6)) == (3, 6, 3, None)
    assert [divergence.fields_at(each) for each in (2, 3, 5)] == [[], ["price"], []]
    assert state(there, 3)["price"] == "690"


def test_fields_of_one_class_alone_are_named_and_are_no_difference(repository: Path) -> None:
    _, _, divergence = replayed(repository, "renamed", 500)
    assert (divergence.differences, divergence.only_here, divergence.only_there) == ([], ["price"], ["postage"])


def test_what_the_code_raises_is_said_at_the_version_where_it_does(repository: Path) -> None:
    _, there, divergence = replayed(repository, "raising", 500, 2_000, 10)
    assert (len(there.steps), divergence.last) == (3, 2)
    assert there.error == "ValueError: too heavy: \u202e<b>"
    assert "parcels.py" in (there.traceback or "")


def test_an_event_that_the_code_cannot_read_is_named(repository: Path) -> None:
    _, there, _ = replayed(repository, "unreadable", 500)
    assert len(there.steps) == 2
    assert "scale: Field required" in (there.error or "")


def test_upcasters_of_the_other_code_run_and_its_classes_stay_there(repository: Path) -> None:
    _, there, divergence = replayed(repository, "upcasting", 500)
    assert state(there, 2) == {"to": '"the scales"', "grams": "500", "price": "450"}
    assert [each.name for each in there.steps[2].applied] == ["Parcel._sent", "Parcel._weighed"]
    assert [each.field for each in divergence.differences] == ["to"]
    assert ParcelWeighed.__event_version__ == 1
    assert stored_types(ParcelWeighed) == ("replays.ParcelWeighed",)


def test_an_endless_loop_is_ended_and_what_came_before_is_kept(repository: Path) -> None:
    said = []
    for seconds in (4, 16, 64, 256):  # as long as it takes to come to the loop
        try:
            _, there = other("endless", repository=repository, seconds=seconds).compare(
                "endless", history_of(parcel(500, 2_000)), ALL
            )
        except OtherCodeError as error:
            said.append(error.reason)
            continue
        said.append(there.error or "")
        if len(there.steps) == 3:
            break
    assert set(said) <= {f"It was ended after {each} s." for each in (4, 16, 64, 256)}
    assert len(there.steps) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit memory")
def test_memory_is_limited(repository: Path) -> None:
    _, there, _ = replayed(repository, "greedy", 500)
    assert (len(there.steps), there.error) == (2, "MemoryError")


@pytest.mark.parametrize(("name", "error"), [("crashing", "SIGABRT"), ("leaving", "SystemExit: 3")])
def test_a_process_that_ends_is_a_message(repository: Path, name: str, error: str) -> None:
    _, there, _ = replayed(repository, name, 500)
    assert len(there.steps) == 2
    assert error in (there.error or "")


def test_what_the_code_prints_is_no_answer(repository: Path) -> None:
    _, there, divergence = replayed(repository, "loud", 500)
    assert (there.error, divergence.differences) == (None, [])


def test_it_gets_no_variables_of_the_application(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret@host/db")
    _, there, _ = replayed(repository, "curious", 500, environment={"PARCELS_URL": "none"})
    names = set(str(state(there, 2)["to"]).strip('"').split(","))
    assert names - {"PATH", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONHOME"} == {
        "PARCELS_URL",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONPATH",
    }


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty", "it has no module tests.replays.parcels"),
        ("syntax", "the import of tests.replays.parcels fails: SyntaxError: "),
        ("settings", "KeyError: 'PARCELS_URL'"),
        ("elsewhere", "it has no aggregate replays.Parcel; its aggregates: replays.Packet"),
        ("numbered", "the ids of its replays.Parcel are of type int"),
        ("nowhere", "there is no such revision in the Git repository"),
        ("main..same", "there is no such revision in the Git repository"),
    ],
)
def test_code_that_cannot_be_used_is_refused(repository: Path, name: str, message: str) -> None:
    with pytest.raises(OtherCodeError) as raised:
        other(name, repository=repository).compare(name, history_of(parcel(500)), ALL)
    assert raised.value.code == name
    assert message in raised.value.reason


def test_a_folder_that_is_no_repository_is_named(tmp_path: Path) -> None:
    with pytest.raises(OtherCodeError, match="not a git repository"):
        other("main", repository=tmp_path).compare("main", history_of(parcel()), ALL)


def test_only_what_was_named_may_be_chosen(repository: Path) -> None:
    for code in (other("same", repository=repository), other(any_revision=True, repository=repository)):
        for name in (str(repository), "../x", "--help", "", "tests.replays.parcels=/etc/passwd", "a\nb"):
            with pytest.raises(OtherCodeError, match="may not be chosen"):
                code.compare(name, history_of(parcel()), ALL)
    with pytest.raises(OtherCodeError, match="There are: same"):
        other("same", repository=repository).compare("dearer", history_of(parcel()), ALL)
    assert other(any_revision=True, repository=repository).compare("same", history_of(parcel()), ALL)[1].error is None


def test_a_folder_is_read_again_when_a_file_of_it_has_changed(tmp_path: Path) -> None:
    file = write_code(tmp_path / "src", code_of("same"))
    code, history = other(str(tmp_path)), history_of(parcel(2_000))
    first = code.compare(str(tmp_path), history, ALL)
    assert state(first[1], 2)["price"] == "600"
    assert code.compare(str(tmp_path), history, ALL) is first
    file.write_text(code_of("dearer"))
    assert state(code.compare(str(tmp_path), history, ALL)[1], 2)["price"] == "690"
    assert not list(tmp_path.rglob("__pycache__"))


def test_a_file_stands_in_for_a_module(tmp_path: Path) -> None:
    draft = tmp_path / "draft.py"
    draft.write_text(code_of("dearer"))
    name = f"tests.replays.parcels={draft}"
    _, there = other(name).compare(name, history_of(parcel(2_000)), ALL)
    assert (state(there, 2)["price"], there.origin) == ("690", str(draft))


def test_code_is_looked_for_where_the_deployed_one_lies_in_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = tmp_path / "services/shop"
    write_code(shop, code_of("dearer"))
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "Parcels")
    monkeypatch.setattr("sa_eventsource.replays.other_code._import_root", lambda _module: shop.resolve())
    _, there, divergence = replayed(tmp_path, "main", 2_000)
    assert divergence.parted == 2
    assert there.steps[2].applied[0].path == "services/shop/tests/replays/parcels.py"


def test_the_repository_is_only_read(repository: Path) -> None:
    before = git(repository, "status", "--porcelain"), git(repository, "rev-parse", "HEAD"), (repository / ".git/index").stat()
    other("dearer", repository=repository / "tests").compare("dearer", history_of(parcel()), ALL)
    after = git(repository, "status", "--porcelain"), git(repository, "rev-parse", "HEAD"), (repository / ".git/index").stat()
    assert before[:2] == after[:2]
    assert before[2].st_mtime_ns == after[2].st_mtime_ns


def test_a_revision_is_written_out_again_where_files_of_it_are_gone(repository: Path) -> None:
    code, history = other("dearer", repository=repository), history_of(parcel(2_000))
    checkouts = code._checkouts
    tree = checkouts.tree(checkouts.commit("dearer"))
    assert checkouts.tree(checkouts.commit("dearer")) == tree
    (tree / "tests/replays/parcels.py").unlink()  # what clears temporary folders may take some files and leave others
    again = checkouts.tree(checkouts.commit("dearer"))
    assert (again / "tests/replays/parcels.py").read_text() == code_of("dearer")
    assert not tree.exists()
    (again / "tests/replays/parcels.py").write_text(code_of("same"))
    shutil.rmtree(checkouts.tree(checkouts.commit("dearer")).parent)
    assert state(code.compare("dearer", history, ALL)[1], 2)["price"] == "690"


def test_revisions_written_out_are_removed_with_what_wrote_them(repository: Path) -> None:
    checkouts = Checkouts(repository)
    trees = [checkouts.tree(checkouts.commit(name)) for name in ("same", "dearer", "raising", "renamed")]
    assert [each.exists() for each in trees] == [False, True, True, True]
    del checkouts
    gc.collect()
    assert not [each for each in trees if each.parent.exists()]


def test_one_replay_runs_at_a_time(repository: Path) -> None:
    code = other("same", repository=repository, seconds=0.2)
    ready, done = threading.Event(), threading.Event()

    def hold() -> None:
        with code._turn:
            ready.set()
            done.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    ready.wait()
    try:
        with pytest.raises(OtherCodeError, match="another replay is running"):
            code.compare("same", history_of(parcel()), ALL)
    finally:
        done.set()
        holder.join()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("tests.replays.parcels", ["main"]), ValueError, "write MODULE:NAME"),
        ((REFERENCE, "main"), TypeError, "takes a list of names"),
        ((REFERENCE, []), ValueError, "names no code"),
        ((REFERENCE, [7]), TypeError, "named by a text"),
        ((REFERENCE, ["-x"]), ValueError, "names no code"),
        ((REFERENCE, ["./nowhere"]), ValueError, "there is no folder"),
        ((REFERENCE, ["a.b=./nowhere.py"]), ValueError, "there is no file"),
        ((REFERENCE, ["a b=./nowhere.py"]), ValueError, "names no module"),
    ],
)
def test_impossible_names_are_refused_at_once(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        OtherCode(*arguments)


@pytest.mark.parametrize("limit", [{"seconds": 0}, {"megabytes": 10}])
def test_impossible_limits_are_refused_at_once(limit: Any) -> None:
    with pytest.raises(ValueError, match=r"OtherCode\("):
        other("main", **{"seconds": 1.0, **limit})
