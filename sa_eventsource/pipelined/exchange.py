"""Several statements in one message, one wait for all answers: libpq's pipeline mode, without ``psycopg.Pipeline``.

That one sends each statement as it comes and waits for the socket around it, which costs more than it saves on a fast network (468
microseconds for BEGIN, INSERT, COMMIT on loopback, where one after the other takes 361 and this 258).

Names of psycopg's that begin with an underscore are used here and in ``driver``, and are the same since psycopg 3.2: how parameters
are written as the server takes them, and whether a statement is to be prepared, is decided there alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import Error, OperationalError
from psycopg import errors as driver_errors
from psycopg._preparing import Prepare
from psycopg.generators import fetch_many, send
from psycopg.pq import ConnStatus, ExecStatus

from sa_eventsource.pipelined.holding import name_failed

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from psycopg._connection_base import BaseConnection
    from psycopg.pq.abc import PGconn, PGresult

_FAILED = ExecStatus.FATAL_ERROR
_SKIPPED = ExecStatus.PIPELINE_ABORTED


class Command:
    """What the driver itself says to the server: BEGIN, COMMIT."""

    __slots__ = ("_command", "begins", "is_commit")

    text = None
    parameters = None
    owner = None

    def __init__(self, command: bytes, *, begins: Command | Statement | None = None, is_commit: bool = False) -> None:
        """Keep the command; *begins* is the statement that a BEGIN goes with: the failure of a BEGIN is raised as that of it."""
        self._command = command
        self.begins = begins
        self.is_commit = is_commit

    def send(self, pgconn: PGconn) -> None:
        """Put it into libpq's buffer."""
        pgconn.send_query_params(self._command, None)

    def answer(self, pgconn: PGconn) -> Generator[Any, Any, list[PGresult]]:
        """Wait for its answer."""
        results: list[PGresult] = yield from fetch_many(pgconn)
        return results


class Statement:
    """A statement with its parameters as the server takes them."""

    __slots__ = ("_connection", "_format", "_key", "_name", "_prepare", "_query", "owner", "parameters", "text")

    is_commit = False
    begins = None

    def __init__(  # noqa: PLR0913 - what psycopg's cursor knows of it
        self,
        connection: BaseConnection[Any],
        query: Any,
        *,
        text: Any,
        parameters: Any,
        prepare: bool | None,
        format_: Any,
        owner: Any,
    ) -> None:
        """Keep it; *query* is psycopg's ``PostgresQuery``."""
        self.text = text
        self.parameters = parameters
        self.owner = owner
        self._connection = connection
        self._query = query
        self._format = format_
        self._prepare: Any = prepare
        self._name = b""
        self._key: Any = None

    def send(self, pgconn: PGconn) -> None:
        """Put it into libpq's buffer, with its PREPARE where psycopg would prepare it now."""
        query, prepared = self._query, self._connection._prepared  # noqa: SLF001
        self._prepare, self._name = prepared.get(query, self._prepare)
        if self._prepare is Prepare.NO:
            pgconn.send_query_params(
                query.query, query.params, param_formats=query.formats, param_types=query.types, result_format=self._format
            )
        else:
            if self._prepare is Prepare.SHOULD:
                pgconn.send_prepare(self._name, query.query, param_types=query.types)
            pgconn.send_query_prepared(self._name, query.params, param_formats=query.formats, result_format=self._format)
        self._key = prepared.maybe_add_to_cache(query, self._prepare, self._name)

    def answer(self, pgconn: PGconn) -> Generator[Any, Any, list[PGresult]]:
        """Wait for its answer."""
        prepared = self._connection._prepared  # noqa: SLF001
        if self._prepare is Prepare.SHOULD:
            made: list[PGresult] = yield from fetch_many(pgconn)
            if not made or made[0].status != ExecStatus.COMMAND_OK:
                prepared._names.pop(prepared.key(self._query), None)  # noqa: SLF001 - there is no such statement on the server
                if made and made[0].status == _FAILED:
                    yield from fetch_many(pgconn)  # skipped
                    return made
        results: list[PGresult] = yield from fetch_many(pgconn)
        if self._key is not None:
            prepared.validate(self._key, self._prepare, self._name, results)
        return results


def exchange(connection: BaseConnection[Any], batch: Sequence[Command | Statement]) -> Generator[Any, Any, list[PGresult]]:
    """Send statements together and wait once: where one fails, the server skips the others behind it.

    Returns:
        The answer to the last one.

    Raises:
        psycopg.Error: What the first one that failed has raised, which is written on it. Where libpq refuses to send one, as it has
            too many parameters, those before it are answered first, those behind it are not sent, and the connection stays usable.
    """
    pgconn = connection.pgconn
    pgconn.enter_pipeline_mode()
    try:
        sent, refused = _put(pgconn, batch)
        if refused is not None and pgconn.status == ConnStatus.BAD:
            raise refused
        pgconn.pipeline_sync()
        yield from send(pgconn)
        failure: Error | None = None
        results: list[PGresult] = []
        for each in sent:
            try:
                results = yield from each.answer(pgconn)
                _raise_failed(connection, results)
            except Error as error:
                if failure is None:
                    failure = error
                    name_failed(error, each.begins or each)
                if pgconn.status == ConnStatus.BAD:
                    break
        else:
            failure = failure or refused
            try:
                yield from _end(pgconn)
            except Error:  # the connection is lost, which the failure may have announced
                if failure is None:
                    raise
        if failure is not None:
            raise failure
    finally:
        if pgconn.status != ConnStatus.BAD and pgconn.pipeline_status:
            pgconn.finish()  # interrupted or lost: answers would be taken for those of later statements
    return results


def _put(pgconn: PGconn, batch: Sequence[Command | Statement]) -> tuple[Sequence[Command | Statement], Error | None]:
    """Put statements into libpq's buffer, up to one that it refuses.

    Returns:
        Those that are in, and why the next one is not.
    """
    for number, each in enumerate(batch):
        try:
            each.send(pgconn)
        except Error as error:
            name_failed(error, each)
            return batch[:number], error
    return batch, None


def _end(pgconn: PGconn) -> Generator[Any, Any, None]:
    """Wait for what the server says behind all answers; the PREPARE of a statement that was refused may be answered before."""
    while True:
        results: list[PGresult] = yield from fetch_many(pgconn)
        if not results or results[0].status == ExecStatus.PIPELINE_SYNC:
            break
    if pgconn.status != ConnStatus.BAD:
        pgconn.exit_pipeline_mode()


def _raise_failed(connection: BaseConnection[Any], results: Sequence[PGresult]) -> None:
    if not results:
        raise OperationalError("the connection was lost before the statement was answered")
    for result in results:
        if result.status == _FAILED:
            raise driver_errors.error_from_result(result, encoding=connection.pgconn._encoding)  # noqa: SLF001
        if result.status == _SKIPPED:
            raise driver_errors.PipelineAborted("skipped, as a statement before it has failed")
