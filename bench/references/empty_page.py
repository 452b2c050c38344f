"""The service with an empty page and a form that only begins a session.

The page requires a login. The form has the CSRF protection and redirect of a login, but finds no user and checks no
password.
"""

from uuid import UUID

from flask import redirect, request
from flask.typing import ResponseReturnValue

import wsgi
from project.domain.registration import Account, Role
from project.http import sessions
from project.http.guards import public

ACCOUNT = Account(id=UUID(int=1), username="somebody", password_hash="", epoch=0, is_active=True, role=Role.USER)


def empty_page() -> str:
    """Return an empty page."""
    return ""


@public
def empty_form() -> ResponseReturnValue:
    """Read the fields of a login form and begin a session without checking them."""
    request.form.getlist("login")
    sessions.start_session(ACCOUNT)
    return redirect("/")


wsgi.app.add_url_rule("/empty/", "empty_page", empty_page)
wsgi.app.add_url_rule("/empty/", "empty_form", empty_form, methods=["POST"])

if __name__ == "__main__":
    wsgi.main()
