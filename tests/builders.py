"""Sample data and requests that tests share."""

import json
import re
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

ADDRESS = "/api/v1/useradd/"
ANNA: dict[str, Any] = {
    "name": "Анна Соколова",
    "username": "a.sokolova",
    "phone": "8 (912) 555-01-41",
    "email": "Anna@Example.org",
    "birth_date": "1990-12-31",
}
IVAN: dict[str, Any] = {"name": "Иван Петров", "username": "petrov.ivan", "phone": "+7 999 123-45-67"}
KEY = "0f8fad5b-d9cb-469f-a165-70867728950e"
BARE_IMPORT = """\
import sys, types
sys.modules["project"] = types.ModuleType("project")
sys.modules["project"].__path__ = ["project"]
"""
"""Start of a program that imports submodules of `project` without running its __init__.py."""
HTML = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}


def useradd(client: FlaskClient, body: dict[str, Any], **kwargs: Any) -> TestResponse:
    """POST a body to /useradd and return the response."""
    return client.post(ADDRESS, data=json.dumps(body), content_type="application/json", **kwargs)


def rename_user(rows: Any, username: str, new: str) -> None:
    """Rename a user in the tables: former versions allowed logins that the rules refuse."""
    rows.query("update users set username = :new where username = :username", username=username, new=new)
    rows.query("update identifiers set value = :new where value = :username", username=username, new=new)


def csrf_token(page: str) -> str:
    """Return the CSRF token of the form on a page."""
    match = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
    assert match, "the page has no form with a CSRF token"
    return match[1]


def log_in(client: FlaskClient, login: str, password: str, query: str = "") -> TestResponse:
    """Fill in and submit the login form."""
    page = client.get(f"/login/{query}").text
    form = {"login": login, "password": password, "csrf_token": csrf_token(page)}
    return client.post(f"/login/{query}", data=form)
