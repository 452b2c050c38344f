"""A service that creates users, in idiomatic Flask, on the server of useradd.

It uses marshmallow, SQLAlchemy ORM and werkzeug's hash.
"""

import os
import secrets
import uuid
from datetime import UTC, datetime
from typing import Any

from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue
from marshmallow import Schema, ValidationError, fields
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session
from werkzeug.security import generate_password_hash

from bench.machine import count_cores
from project import server
from project.models import Attempt, User

THREADS = 8


class UserSchema(Schema):
    """The schema of a request that creates a user."""

    name = fields.String(required=True)
    username = fields.String(required=True)
    phone = fields.String()
    email = fields.Email()
    birth_date = fields.Date()


def create_app(engine: Engine) -> Flask:
    """Return a Flask application that stores users with `engine`."""
    app = Flask(__name__)
    schema = UserSchema()

    @app.get("/livez")
    def livez() -> ResponseReturnValue:
        return jsonify(status="ok")

    @app.post("/api/v1/useradd/")
    def useradd() -> ResponseReturnValue:
        try:
            sent: dict[str, Any] = schema.load(request.get_json())
        except ValidationError as error:
            return jsonify(error.messages), 422
        password, attempt_id, now = secrets.token_urlsafe(12), uuid.uuid4(), datetime.now(UTC)
        with Session(engine) as session:
            session.add(_attempt(attempt_id, now, sent["username"]))
            session.flush()
            hashed = generate_password_hash(password)
            session.add(User(id=attempt_id, password_hash=hashed, created_at=now, **sent))
            session.commit()
        return jsonify(login=sent["username"], password=password), 201

    return app


def _attempt(attempt_id: uuid.UUID, now: datetime, username: str) -> Attempt:
    return Attempt(
        id=attempt_id,
        received_at=now,
        status=201,
        answered=201,
        code="created",
        method="POST",
        duration_ms=1,
        username=username,
        language="en",
        client_address=request.remote_addr or "",
        user_agent=request.user_agent.string,
    )


def main() -> None:
    """Serve until SIGTERM."""
    url = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg2://")
    server.serve(
        create_app(create_engine(url, pool_size=THREADS)),
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        threads=THREADS,
        workers=count_cores(),
        deadline_s=3,
        greeting=str,
    )


if __name__ == "__main__":
    main()
