"""Where the folders are that the package brings besides its code."""

from __future__ import annotations

from pathlib import Path


def shipped_folder(name: str, source: str) -> Path:
    """Get a folder that the installed package brings.

    Args:
        name: Where it lies in the package.
        source: Where it lies in a checkout of the project.

    Raises:
        FileNotFoundError: It is in neither place. Install sa_eventsource from its wheel again.
    """
    package = Path(__file__).parent
    for folder in (package / name, package.parent / source):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(
        f"neither {package / name} nor {package.parent / source} is there; install sa_eventsource from its wheel again"
    )
