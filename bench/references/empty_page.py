"""The service with two views more.

A page for those who have logged in, as every page is, that is empty; and a form, guarded as all are, that begins a
session and leads on as a login does, but looks for nobody and checks nothing.
"""

from uuid import UUID

from flask import redirect, request
from flask.typing import ResponseReturnValue

import wsgi
from project.domain.registration import Account
from project.http import sessions
from project.http.guards import public

SOMEBODY = Account(id=UUID(int=1), username="somebody", password_hash="", epoch=0, is_active=True, is_admin=False)


def empty_page() -> str:
    """Answer with nothing."""
    return ""


@public
def empty_form() -> ResponseReturnValue:
    """Read a form that could be a login; begin a session whoever sent it."""
    request.form.getlist("login")
    sessions.begin(SOMEBODY)
    return redirect("/")


wsgi.app.add_url_rule("/empty/", "empty_page", empty_page)
wsgi.app.add_url_rule("/empty/", "empty_form", empty_form, methods=["POST"])

if __name__ == "__main__":
    wsgi.main()
