"""Revisions of a Git repository, written out into folders of their own. The repository itself is only read."""

from __future__ import annotations

import os
import shutil
import subprocess
import weakref
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, TypeAlias

from sa_eventsource.application_errors import storable
from sa_eventsource.exceptions import OtherCodeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SECONDS = 60
_OF_A_HOOK = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")
"""What names the repository that a process is called from."""

_MOST_KEPT = 3
"""How many revisions stay written out."""


_Stamp: TypeAlias = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit.

    Attributes:
        commit_id: Its whole id.
        summary: Its short id, date and subject, for people.
    """

    commit_id: str
    summary: str


@dataclass(frozen=True, slots=True)
class _Tree:
    """A commit that was written out: its folder, what its files were then, and what removes it."""

    folder: Path
    stamps: Mapping[Path, _Stamp | None]
    remove: Callable[[], object]

    def is_whole(self) -> bool:
        """Whether all files are as they were written. What clears temporary folders may have removed them, or some."""
        return all(_stamp(file) == stamp for file, stamp in self.stamps.items())


class Checkouts:
    """Commits of a repository as folders, which are removed in the end. Use it from one thread at a time.

    A commit is written out with an index of its own, as ``git checkout`` would write it. So neither the working tree nor the index
    of the repository is touched, no hook runs, and nothing is left out, as ``git archive`` does with what is marked so.
    """

    def __init__(self, repository: Path) -> None:
        """Name the repository; nothing is read yet."""
        self.repository = repository
        self._trees: dict[str, _Tree] = {}
        self._top: Path | None = None

    def commit(self, revision: str) -> Commit:
        """Find the commit that a revision names now.

        Raises:
            OtherCodeError: There is none, or no repository.
        """
        top = self.top_level(revision)
        try:
            commit_id = self._git(revision, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        except OtherCodeError:
            raise OtherCodeError(revision, f"there is no such revision in the Git repository {top}") from None
        return Commit(commit_id, self._git(revision, "show", "--no-patch", "--format=%h of %cs: %s", commit_id))

    def top_level(self, revision: str) -> Path:
        """Give the folder of the repository's working tree. Git is asked once: it stays the same.

        Raises:
            OtherCodeError: There is none.
        """
        if self._top is None:
            self._top = Path(self._git(revision, "rev-parse", "--show-toplevel")).resolve()
        return self._top

    def tree(self, commit: Commit) -> Path:
        """Give the folder of a commit, which is written out at its first use, and stays until some others have been asked for.

        It is written out again, into another folder, where a file of it was removed or changed since.

        Raises:
            OtherCodeError: Git cannot write it.
        """
        known = self._trees.pop(commit.commit_id, None)
        if known is not None and not known.is_whole():
            known.remove()
            known = None
        if known is None:
            known = self._written(commit)
        self._trees[commit.commit_id] = known
        while len(self._trees) > _MOST_KEPT:
            self._trees.pop(next(iter(self._trees))).remove()
        return known.folder

    def _written(self, commit: Commit) -> _Tree:
        top = self.top_level(commit.commit_id)
        folder = Path(mkdtemp(prefix="sa-eventsource-code-"))  # of its own: nobody else can have made it, or put anything into it
        remove = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        tree, index = folder / commit.commit_id, folder / "index"
        try:
            self._git(commit.commit_id, "read-tree", commit.commit_id, index=index)
            self._git(commit.commit_id, "checkout-index", "--all", f"--prefix={tree.as_posix()}/", index=index, folder=top)
            index.unlink()
            files = [each for each in tree.rglob("*") if each.is_symlink() or not each.is_dir()]
            return _Tree(tree, {each: _stamp(each) for each in files}, remove)
        except BaseException:
            remove()
            raise

    def _git(self, code: str, *arguments: str, index: Path | None = None, folder: Path | None = None) -> str:
        """Run Git.

        Raises:
            OtherCodeError: It is not there, or says that something is wrong.
        """
        own = {} if index is None else {"GIT_INDEX_FILE": str(index)}
        environment = {name: value for name, value in os.environ.items() if name not in _OF_A_HOOK}
        command = ["git", "-C", str(folder or self.repository), *arguments]
        try:
            done = subprocess.run(  # noqa: S603
                command,
                env={**environment, "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C", **own},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_SECONDS,
                check=False,
            )
        except FileNotFoundError:
            raise OtherCodeError(code, "git is not installed where the browser runs") from None
        except subprocess.TimeoutExpired:
            raise OtherCodeError(code, f"git took longer than {_SECONDS} s") from None
        if done.returncode:
            said = storable(done.stderr.decode("utf-8", "replace")).strip()
            raise OtherCodeError(code, f"git {arguments[0]} fails in {self.repository}: {said or done.returncode}")
        return storable(done.stdout.decode("utf-8", "replace")).strip()


def _stamp(file: Path) -> _Stamp | None:
    """Identify a file and what is in it, without reading it; None where there is none."""
    try:
        found = file.lstat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
