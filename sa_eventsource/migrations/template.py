"""Where the Alembic template is."""

from __future__ import annotations

from pathlib import Path


def template_path() -> Path:
    """Get the folder of the template for ``alembic init -t``.

    It lies inside the installed package; in a checkout of the project, beside it.

    Raises:
        FileNotFoundError: It is in neither place. Install sa_eventsource from its wheel again.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "alembic_template", package.parent / "alembic_template"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"no alembic_template in {package} or beside it; install sa_eventsource from its wheel again")
