"""Helpers for the commands: new attempts, validation of options, and error messages."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from project.contract.error_codes import message_text, refusal_text
from project.domain.attempts import NewAttempt
from project.domain.errors import ClocksDifferError, DatabaseUnavailableError, RefusalError, RuleError
from project.domain.passwords import hash_idempotency_key
from project.http.translations import gettext
from project.runtime import get_runtime


@contextmanager
def as_click_exceptions() -> Iterator[None]:
    """Convert RefusalError and ClocksDifferError into ClickException with a translated text."""
    try:
        yield
    except DatabaseUnavailableError as error:
        cause = error.cause or gettext("it does not answer")
        raise click.ClickException(gettext("PostgreSQL is unavailable: %(cause)s", cause=cause)) from None
    except RefusalError as error:
        texts = [message_text(field_error) for field_error in error.errors] or [refusal_text(error)]
        raise click.ClickException(" ".join(texts)) from None
    except ClocksDifferError as error:
        raise click.ClickException(gettext("Nothing is deleted: %(cause)s", cause=error)) from None


def validation_callback(
    rule: Callable[[str], str],
) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    """Return a click callback that validates and normalizes an option with a domain rule.

    An absent or empty option becomes None.
    """
    return lambda context, parameter, value: validate(rule, value) if value else None


def validate(rule: Callable[[str], str], value: str) -> str:
    """Validate and normalize a value with a domain rule. Raises BadParameter."""
    try:
        return rule(value)
    except RuleError as error:
        raise click.BadParameter(message_text(error)) from None


def with_suffix(*allowed: str) -> Callable[[click.Context, click.Parameter, Path], Path]:
    """Return a click callback that requires a file name with one of these suffixes."""

    def check(context: click.Context, parameter: click.Parameter, value: Path) -> Path:
        if value.suffix.lower() not in allowed:
            endings = gettext(" or ").join(allowed)
            raise click.BadParameter(gettext("The name must end in %(endings)s.", endings=endings))
        return value

    return check


def new_attempt(command: str, key: str | None = None) -> NewAttempt:
    """Return a new attempt of a command, with the idempotency key `key`."""
    key_hash = None if key is None else hash_idempotency_key(key)
    return NewAttempt.without_request("CLI", get_runtime().config.default_language, command, key_hash=key_hash)
