"""DOOR: the administrators' pages, by Flask-Admin on the models (docs/adr/0017)."""

from flask import Flask
from flask_admin import Admin

from project.admin.api_keys import ApiKeysView
from project.admin.attempts import AttemptsView
from project.admin.state import StateView
from project.admin.users import UsersView


def init_app(app: Flask) -> None:
    """Add the pages below /admin/."""
    admin = Admin(app, name="useradd", index_view=StateView(endpoint="admin", url="/admin"))
    for view in (UsersView(), AttemptsView(), ApiKeysView()):
        admin.add_view(view)
