"""An application that has Alembic already adds one import and one argument."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine

from tests.migrations.environment import MODELS, Environment

pytestmark = [
    pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index"),
    pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index"),
]


def test_one_import_and_one_argument_are_enough(tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    module = f"models_{uuid.uuid4().hex}"
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"{module}.py").write_text(MODELS.format(body="pass", module=module))
    command.init(Config(str(tmp_path / "alembic.ini")), str(tmp_path / "migrations"), template="generic")
    env = tmp_path / "migrations" / "env.py"
    text = env.read_text()
    text = text.replace("target_metadata = None", f"from {module} import Base\ntarget_metadata = Base.metadata")
    text = "from sa_eventsource.migrations import render_item\n" + text
    text = text.replace("target_metadata=target_metadata", "target_metadata=target_metadata, render_item=render_item")
    env.write_text(text)

    environment = Environment.__new__(Environment)
    environment.engine, environment.module = engine, module
    environment.config = Config(str(tmp_path / "alembic.ini"))
    environment.config.set_main_option("sqlalchemy.url", engine.url.render_as_string(hide_password=False).replace("%", "%%"))
    assert "create_event_immutability" in environment.revise()
    environment.upgrade()
    assert environment.difference() == []
    environment.downgrade()
    assert environment.left_over() == set()
    sys.modules.pop(module)
