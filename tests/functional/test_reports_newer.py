"""A results page that is open asks what came since: it gets nothing, nothing new, or a button; never rows."""

import json
import re

import pytest
from flask import Flask
from flask.testing import FlaskClient

from project.reports.page_data import MAX_NEWER
from tests.conftest import Rows
from tests.functional.attempts import ago, keep
from tests.functional.test_reports import show, text_of

BY_ITSELF = {"HX-Request": "true", "HX-Request-Type": "partial"}


def asked_address(page: str) -> str:
    """Return the address that a page asks again and again."""
    (address,) = re.findall(r'id="newer" hx-get="([^"]+)"', page)
    return str(address).replace("&amp;", "&")


def test_nothing_new_is_no_content(reader: FlaskClient) -> None:
    response = reader.get(asked_address(show(reader)))

    assert (response.status_code, response.data) == (204, b"")


def test_what_came_since_is_counted_inside_the_filter(reader: FlaskClient, app: Flask) -> None:
    address = asked_address(show(reader, "?result=rejected&q=anna"))
    for username, status, code in (("anna", 201, "created"), ("boris", 422, "blank"), ("anna", 422, "blank")):
        keep(app, ago(), username=username, status=status, code=code)

    response = reader.get(address)

    assert "result=rejected&q=anna&newer=00000000-0000-0000-0000-000000000000" in address
    assert text_of(response.text) == "Показать 1 новый"
    assert "<tr" not in response.text


@pytest.mark.parametrize(("number", "said"), [(2, "Показать 2 новых"), (MAX_NEWER + 1, "Показать больше 99 новых")])
def test_counting_has_an_end(reader: FlaskClient, app: Flask, number: int, said: str) -> None:
    address = asked_address(show(reader))
    for _ in range(number):
        keep(app, ago())

    assert text_of(reader.get(address).text) == said


def test_an_offer_is_sent_once(reader: FlaskClient, app: Flask) -> None:
    address = asked_address(show(reader))
    keep(app, ago())

    first = reader.get(address)
    again = reader.get(address, headers={"If-None-Match": first.headers["ETag"]})
    keep(app, ago())
    then = reader.get(address, headers={"If-None-Match": first.headers["ETag"]})

    (headers,) = re.findall(r"hx-headers='([^']+)'", first.text)
    assert json.loads(headers) == {"If-None-Match": first.headers["ETag"]}
    assert (again.status_code, again.data) == (304, b"")
    assert then.status_code == 200


def test_the_box_is_as_the_reader_left_it(reader: FlaskClient) -> None:
    assert '<input id="follow" type="checkbox" checked>' in show(reader)
    reader.set_cookie("follow", "off")

    assert '<input id="follow" type="checkbox">' in show(reader)


def test_the_end_of_a_session_is_told_in_place_of_news(reader: FlaskClient, rows: Rows) -> None:
    address = asked_address(show(reader))
    rows.ask("update users set epoch = epoch + 1")

    by_itself = reader.get(address, headers=BY_ITSELF)
    by_click = reader.get("/results/", headers={"HX-Request": "true", "HX-Request-Type": "full"})

    assert (by_itself.status_code, text_of(by_itself.text)) == (401, "Сеанс закончился. Войти снова")
    assert (by_click.status_code, by_click.headers["HX-Refresh"]) == (401, "true")
