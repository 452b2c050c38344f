"""Layers of the service as programs; the environment variable LAYER selects one.

The layers are the server of the service, Flask on this server, and a minimal implementation on both.
"""

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import psycopg2
from flask import Flask, Response, request
from flask.typing import ResponseReturnValue
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class with a lower-case name
from sqlalchemy.pool import PoolProxiedConnection

from config import Config
from project import WRITING_ARGS, server
from project.contract.schemas import UserAddSchema
from project.database import Database, Member, PreparedStatement, Row, deadline
from project.database.group_commit import GroupCommit
from project.database.pending_writers import PendingWriters
from project.domain.attempts import NewAttempt, new_id
from project.domain.passwords import Passwords, Secret, hash_idempotency_key, new_idempotency_key
from project.services import registration

ADDRESS = "/api/v1/useradd/"
DEADLINE_S = 3
BODY = b"x" * 1100
"""The body of each response: with its headers as long as a response of the service."""


def server_alone(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Read the body and respond, as a WSGI application without a framework."""
    environ["wsgi.input"].read()
    start_response("201 Created", [("Content-Type", "application/json"), ("Content-Length", str(len(BODY)))])
    return [BODY]


def flask_alone() -> Flask:
    """Return a Flask application with a view that reads the body and responds."""
    app = Flask(__name__)

    @app.get("/livez")
    @app.post(ADDRESS)
    def useradd() -> ResponseReturnValue:
        request.get_data()
        return Response(BODY, 201, mimetype="application/json")

    return app


def leanest(url: str, secret: str) -> Flask:
    """Return an application that creates users like the service, and does nothing else."""
    app = Flask(__name__)
    schema, passwords = UserAddSchema(), Passwords((Secret(secret.encode()),))
    connections = _Connections(url)

    @app.get("/livez")
    def livez() -> ResponseReturnValue:
        return {"status": "ok"}

    @app.post(ADDRESS)
    def useradd() -> ResponseReturnValue:
        with connections.pending_writers:
            body, key = request.get_json(), new_idempotency_key()
            new_user = schema.load(body)
            database = cast(Database, connections)
            credentials = registration.register(database, passwords, _attempt(body, key), key, new_user)
        return {"login": credentials.login, "password": credentials.password}, 201

    return app


def _attempt(body: dict[str, Any], key: str) -> NewAttempt:
    now = datetime.now(UTC)
    attempt = NewAttempt(
        id=new_id(now),
        received_at=now,
        started=time.monotonic(),
        method=request.method,
        language="ru",
        client_address=request.remote_addr or "",
        user_agent=request.user_agent.string,
        client_request_id=None,
        key_hash=hash_idempotency_key(key),
    )
    attempt.store_body(body, "RU")
    return attempt


class _Connection:
    """The part of a pooled connection that PreparedStatement uses."""

    def __init__(self, driver_connection: Connection) -> None:
        self.driver_connection = driver_connection
        self.info: dict[str, bool] = {}


class _Connections:
    """A minimal Database: group commit, with a connection for each concurrent group, no pool."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._idle: list[_Connection] = []
        self._groups: GroupCommit | None = None
        self.pending_writers = PendingWriters()

    def write_member(self, statement: PreparedStatement, member: Member) -> Row:
        """Execute a member like Database.write_member(), without permits, retries and breaker."""
        if self._groups is None:
            execute = partial(self._execute, statement)
            self._groups = GroupCommit(execute, lambda member: execute([member])[0], self.pending_writers)
        with deadline(DEADLINE_S):
            return self._groups.execute(member)

    def _execute(self, statement: PreparedStatement, members: Sequence[Member]) -> list[Row]:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = _Connection(psycopg2.connect(self._url, options=WRITING_ARGS["options"]))
        array = f"[{','.join(member.line for member in members)}]"
        rows = statement.run(cast(PoolProxiedConnection, connection), [array])
        self._idle.append(connection)
        return rows


def main() -> None:
    """Serve the layer with the server of the service until SIGTERM."""
    config = Config.from_environment()
    apps: dict[str, WSGIApplication] = {
        "server": server_alone,
        "flask": flask_alone(),
        "leanest": leanest(os.environ["DATABASE_URL"], config.password_secret),
    }
    server.serve(
        apps[os.environ["LAYER"]],
        host=config.host,
        port=config.port,
        threads=config.threads,
        workers=config.workers,
        deadline_s=config.request_deadline_s,
        greeting=str,
    )


if __name__ == "__main__":
    main()
