"""A service that creates users, with FastAPI and asyncpg.

It computes no password hash, which would dominate the cost. VALIDATE=1 validates phones and e-mail addresses with the
libraries of the service.
"""

import os
import secrets
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime

import asyncpg
import phonenumbers
import uvicorn
from email_validator import EmailNotValidError, validate_email
from fastapi import FastAPI, Request
from pydantic import BaseModel, field_validator

from bench.machine import count_cores

CONNECTIONS = 8
IS_VALIDATING = os.environ.get("VALIDATE") == "1"
ATTEMPT = """
insert into attempts (id, received_at, status, answered, code, method, duration_ms, username, language, client_address,
                      user_agent)
values ($1, $2, 201, 201, 'created', 'POST', 1, $3, 'en', $4, $5)
"""
USER = """
insert into users (id, name, username, phone, email, birth_date, password_hash, created_at)
values ($1, $2, $3, $4, $5, $6, '', $7)
"""


class NewUser(BaseModel):
    """The body of a request that creates a user."""

    name: str
    username: str
    phone: str | None = None
    email: str | None = None
    birth_date: date | None = None

    @field_validator("phone")
    @classmethod
    def normalize_phone(cls, phone: str | None) -> str | None:
        """Return a phone in E.164 form."""
        if phone is None or not IS_VALIDATING:
            return phone
        try:
            number = phonenumbers.parse(phone, "RU")
        except phonenumbers.NumberParseException as error:
            raise ValueError("invalid phone") from error
        if not phonenumbers.is_valid_number(number):
            raise ValueError("invalid phone")
        return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)

    @field_validator("email")
    @classmethod
    def normalize_email(cls, email: str | None) -> str | None:
        """Return an e-mail address as the validator normalizes it."""
        if email is None or not IS_VALIDATING:
            return email
        try:
            return validate_email(email, check_deliverability=False).normalized
        except EmailNotValidError as error:
            raise ValueError("invalid e-mail") from error


class Credentials(BaseModel):
    """The body of a response."""

    login: str
    password: str


@asynccontextmanager
async def _connected(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=1, max_size=CONNECTIONS) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=_connected)


@app.get("/livez")
async def livez() -> dict[str, str]:
    """Report that this process responds."""
    return {"status": "ok"}


@app.post("/api/v1/useradd/", status_code=201)
async def useradd(new_user: NewUser, request: Request) -> Credentials:
    """Create a user."""
    attempt_id, now, sent = uuid.uuid4(), datetime.now(UTC), new_user
    client, agent = request.client.host if request.client else "", request.headers.get("User-Agent", "")
    async with app.state.pool.acquire() as connection, connection.transaction():
        await connection.execute(ATTEMPT, attempt_id, now, sent.username, client, agent)
        await connection.execute(
            USER, attempt_id, sent.name, sent.username, sent.phone, sent.email, sent.birth_date, now
        )
    return Credentials(login=sent.username, password=secrets.token_urlsafe(12))


if __name__ == "__main__":
    uvicorn.run(f"{__spec__.name}:app", port=int(os.environ["PORT"]), workers=count_cores(), access_log=False)
