"""What doors need of the application at hand: its settings, its database, its passwords."""

from dataclasses import dataclass
from typing import cast

from flask import Flask, current_app

from config import Config
from project.domain.passwords import Passwords, Secret
from project.extensions import db
from project.outage import Database


@dataclass(frozen=True, slots=True)
class Tools:
    """The parts that use cases take as arguments, made once for each application."""

    config: Config
    database: Database
    reading: Database
    """Its own small pool for statistics and exports: they must not take the connections of /useradd."""
    passwords: Passwords


def init_app(app: Flask, config: Config) -> None:
    """Make the tools of this application."""
    secrets = (config.password_secret, *config.password_secret_fallbacks)
    app.extensions["useradd"] = Tools(
        config=config,
        database=Database(lambda: db.engine, config.request_deadline_s),
        reading=Database(lambda: db.engines["reading"], config.request_deadline_s),
        passwords=Passwords(tuple(Secret(secret.encode()) for secret in secrets), config.password_hash),
    )


def tools() -> Tools:
    """Return the tools of the application that serves this request."""
    return cast(Tools, current_app.extensions["useradd"])
