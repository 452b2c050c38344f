"""What commands share: attempts of their own, and what is wrong in the words that pages and the API have for it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import click

from project.contract.error_codes import PROBLEMS, detail_text, message_text
from project.domain.attempts import NewAttempt, new_id
from project.domain.errors import FieldError, RefusalError, RuleError
from project.domain.passwords import hash_key
from project.runtime import get_runtime


@contextmanager
def refusals() -> Iterator[None]:
    """Say why something is refused, in the words that pages have for it."""
    try:
        yield
    except RefusalError as error:
        texts = [message_text(one) for one in error.errors] or [reason(error)]
        raise click.ClickException(" ".join(texts)) from None


def reason(error: RefusalError) -> str:
    """Return the sentence of a refusal that names no field."""
    if PROBLEMS[error.code].retryable:
        return detail_text(error.code, "read", {"seconds": 2})
    return detail_text(error.code, error.variant, error.params)


def checked_by(
    rule: Callable[[str], str], field: str
) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    """Let click check an option by a rule of the domain, and say what is wrong in the API's own words."""

    def check(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
        if not value:
            return None
        try:
            return rule(value)
        except RuleError as error:
            raise click.BadParameter(message_text(FieldError(field, error.code, error.variant, error.params))) from None

    return check


def new_attempt(command: str, key: str | None = None) -> NewAttempt:
    """Begin the attempt of a user made by command: statistics show it like any other."""
    now = datetime.now(UTC)
    return NewAttempt(
        id=new_id(now),
        received_at=now,
        started=time.monotonic(),
        method="CLI",
        language=get_runtime().config.default_language,
        client_address="",
        user_agent=command,
        client_request_id=None,
        key_hash=None if key is None else hash_key(key),
    )
