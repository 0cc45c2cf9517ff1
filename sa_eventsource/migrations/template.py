"""Where the Alembic template is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sa_eventsource.shipped_files import shipped_folder

if TYPE_CHECKING:
    from pathlib import Path


def template_path() -> Path:
    """Get the folder of the template for ``alembic init -t``.

    It lies inside the installed package; in a checkout of the project, alongside it.

    Raises:
        FileNotFoundError: It is in neither place. Install sa_eventsource from its wheel again.
    """
    return shipped_folder("alembic_template", source="alembic_template")
