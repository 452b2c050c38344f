"""The unbound Flask extensions, which create_app() initializes."""

from flask import Response
from flask_babel import Babel
from flask_login import LoginManager
from flask_sqlalchemy import SQLAlchemy
from flask_wtf.csrf import CSRFProtect

from project.models import Base


class Engines(SQLAlchemy):
    """Flask-SQLAlchemy that does not remove its session after each request: nothing uses it."""

    def _teardown_session(self, exc: BaseException | None) -> None:
        pass


class SessionLoginManager(LoginManager):  # type: ignore[misc]  # Flask-Login has no types
    """A login manager without the remember-me cookie, which costs a session read per request."""

    def _update_remember_cookie(self, response: Response) -> Response:
        return response


db = Engines(metadata=Base.metadata)
login_manager = SessionLoginManager()
csrf = CSRFProtect()
babel = Babel()
