"""The message printed when the service starts: state, addresses and an example request."""

import json
import logging
import os
import sys
from collections.abc import Mapping

from flask import Flask
from flask_babel import force_locale

from config import Config
from project.http.hosts import normalize_host
from project.http.translations import gettext

log = logging.getLogger(__name__)

EXAMPLES = {
    "en": {"name": "Grace Hopper", "username": "grace.hopper", "email": "grace.hopper@example.org"},
    "ru": {"name": "Анна Соколова", "username": "anna.sokolova", "email": "anna.sokolova@example.org"},
}
"""Language -> example user. The READMEs and Swagger UI have other users, so that the examples do not conflict."""


def terminal_language(environment: Mapping[str, str] = os.environ) -> str:
    """Return `ru` if the locale is Russian, else `en`.

    LC_ALL precedes LC_MESSAGES, which precedes LANG (POSIX.1-2017, XBD 8.2).
    """
    names = ("LC_ALL", "LC_MESSAGES", "LANG")
    locale = next((environment[name] for name in names if environment.get(name)), "")
    return "ru" if locale.startswith("ru") else "en"


def login_address(config: Config) -> str:
    """Return the address of the login page, with the first trusted host that is no wildcard.

    Without such a host, the address has the host on which the service listens.
    """
    is_proxied = bool(config.https_only or config.trusted_proxies)
    scheme, port = "https" if config.https_only else "http", "" if is_proxied else f":{config.port}"
    local = "localhost" if config.host in {"0.0.0.0", "::"} else config.host  # noqa: S104 - compared only
    host = next((normalize_host(name) for name in config.trusted_hosts if not name.startswith(".")), local)
    return f"{scheme}://{f'[{host}]' if ':' in host else host}{port}/login/"


def announce(app: Flask, address: str, problem: str) -> str:
    """Return the text to print at the start; log the address if there is no terminal.

    Without a terminal, the text is empty: the standard output of a container or systemd unit is part of its log.
    """
    if sys.stdout is not None and sys.stdout.isatty():
        return build_greeting(app, address, problem)
    log.info("ready", extra={"address": address})
    return ""


def build_greeting(app: Flask, address: str, problem: str) -> str:
    """Return the message for the terminal, in its language.

    `problem` is the reason why the start is not complete, or "".
    """
    language = terminal_language()
    example = json.dumps(EXAMPLES[language], ensure_ascii=False)
    with app.app_context(), force_locale(language):
        state = gettext("useradd is ready.")
        if problem:
            state = gettext("useradd has started, but: %(problem)s", problem=problem)
        results, documentation = gettext("Results:"), gettext("API documentation:")
        task = gettext("Create a user, then log in with the login and password of the response:")
    width = max(len(results), len(documentation))
    return f"""
  {state}

    {results:{width}}  {address}/results/
    {documentation:{width}}  {address}/swagger/

  {task}

    curl -i {address}/api/v1/useradd/ -H 'Content-Type: application/json' \\
      -d '{example}'
"""
