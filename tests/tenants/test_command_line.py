"""The command line works on one tenant, whom the URL's search path names."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.schema import CreateSchema

from tests.cli.commands import call, url_of
from tests.verification.damage import Base, sell

HERE = "tests.verification.damage:Base"


def run(command: str, url: str, *options: str) -> str:
    """Run a command that must succeed; its output."""
    result = call(command, HERE, *options, "--url", url)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_each_command_sees_the_tenants_log(postgres_engine: Engine) -> None:
    urls: dict[str | None, str] = {None: url_of(postgres_engine)}
    for number, tenant in enumerate(("alpha", "beta", None), 1):
        engine = postgres_engine
        if tenant is not None:
            with postgres_engine.begin() as connection:
                connection.execute(CreateSchema(tenant))
            engine = postgres_engine.execution_options(schema_translate_map={None: tenant})
            path = {"options": f"-csearch_path={tenant}"}
            urls[tenant] = postgres_engine.url.update_query_dict(path).render_as_string(hide_password=False)
        Base.metadata.create_all(engine)
        sell(engine, "t-1", *range(number))
    assert {tenant: len(run("export", url).splitlines()) - 1 for tenant, url in urls.items()} == {"alpha": 1, "beta": 2, None: 3}
    run("run", urls["beta"], "--once")
    assert {tenant: _lag(url) for tenant, url in urls.items()} == {"alpha": 1, "beta": 0, None: 3}
    for url in urls.values():
        assert json.loads(run("verify", url, "--json"))["findings"] == []


def _lag(url: str) -> int:
    status: dict[str, Any] = json.loads(call("status", HERE, "--json", "--url", url).stdout)
    lag: int = next(each["lag_events"] for each in status["consumers"] if each["name"] == "articles")
    return lag
