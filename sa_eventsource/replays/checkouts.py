"""Revisions of a Git repository, written out into folders of their own. The repository itself is only read."""

from __future__ import annotations

import os
import shutil
import subprocess
import weakref
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from sa_eventsource.application_errors import storable
from sa_eventsource.exceptions import OtherCodeError

_SECONDS = 60
_OF_A_HOOK = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")
"""What names the repository that a process is called from."""

_MOST_KEPT = 3
"""How many revisions stay written out."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit.

    Attributes:
        commit_id: Its whole id.
        summary: Its short id, date and subject, for people.
    """

    commit_id: str
    summary: str


class Checkouts:
    """Commits of a repository as folders, which are removed in the end. Use it from one thread at a time.

    A commit is written out with an index of its own, as ``git checkout`` would write it. So neither the working tree nor the index
    of the repository is touched, no hook runs, and nothing is left out, as ``git archive`` does with what is marked so.
    """

    def __init__(self, repository: Path) -> None:
        """Name the repository; nothing is read yet."""
        self.repository = repository
        self._folder: Path | None = None
        self._trees: dict[str, Path] = {}

    def commit(self, revision: str) -> Commit:
        """Find the commit that a revision names now.

        Raises:
            OtherCodeError: There is none, or no repository.
        """
        top = self._git(revision, "rev-parse", "--show-toplevel")
        try:
            commit_id = self._git(revision, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        except OtherCodeError:
            raise OtherCodeError(revision, f"there is no such revision in the Git repository {top}") from None
        return Commit(commit_id, self._git(revision, "show", "--no-patch", "--format=%h of %cs: %s", commit_id))

    def top_level(self, revision: str) -> Path:
        """Give the folder of the repository's working tree.

        Raises:
            OtherCodeError: There is none.
        """
        return Path(self._git(revision, "rev-parse", "--show-toplevel")).resolve()

    def tree(self, commit: Commit) -> Path:
        """Give the folder of a commit, which is written out at its first use, and stays until some others have been asked for.

        Raises:
            OtherCodeError: Git cannot write it.
        """
        known = self._trees.pop(commit.commit_id, None)
        if known is None:
            known = self._written(commit)
        self._trees[commit.commit_id] = known
        while len(self._trees) > _MOST_KEPT:
            shutil.rmtree(self._trees.pop(next(iter(self._trees))), ignore_errors=True)
        return known

    def _written(self, commit: Commit) -> Path:
        if self._folder is None:
            self._folder = Path(mkdtemp(prefix="sa-eventsource-code-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        tree = self._folder / commit.commit_id
        index = self._folder / f"{commit.commit_id}.index"
        top = self.top_level(commit.commit_id)
        try:
            self._git(commit.commit_id, "read-tree", commit.commit_id, index=index)
            self._git(commit.commit_id, "checkout-index", "--all", f"--prefix={tree.as_posix()}/", index=index, folder=top)
        except BaseException:
            shutil.rmtree(tree, ignore_errors=True)
            raise
        finally:
            index.unlink(missing_ok=True)
        return tree

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
