"""Polling by an open results page: no content, or a button with the number of new attempts."""

import json
import re

import pytest
from flask import Flask
from flask.testing import FlaskClient

from project.reports.page_data import MAX_NEWER
from tests.conftest import Rows
from tests.functional.attempts import ago, keep
from tests.functional.test_reports import show, text_of

POLLING = {"HX-Request": "true", "HX-Request-Type": "partial"}


def polled_address(page: str) -> str:
    """Return the address that a page polls."""
    (address,) = re.findall(r'id="newer" data-hx-get="([^"]+)"', page)
    return str(address).replace("&amp;", "&")


def test_without_new_attempts_there_is_no_content(reader: FlaskClient) -> None:
    response = reader.get(polled_address(show(reader)))

    assert (response.status_code, response.data) == (204, b"")


def test_new_attempts_that_match_the_filter_are_counted(reader: FlaskClient, app: Flask) -> None:
    address = polled_address(show(reader, "?result=rejected&q=anna"))
    for username, status, code in (("anna", 201, "created"), ("boris", 422, "blank"), ("anna", 422, "blank")):
        keep(app, ago(), username=username, status=status, code=code)

    response = reader.get(address)

    assert "result=rejected&q=anna&newer=00000000-0000-0000-0000-000000000000" in address
    assert text_of(response.text) == "Показать 1 новый"
    assert "<tr" not in response.text


@pytest.mark.parametrize(("number", "message"), [(2, "Показать 2 новых"), (MAX_NEWER + 1, "Показать больше 99 новых")])
def test_the_number_of_new_attempts_is_capped(reader: FlaskClient, app: Flask, number: int, message: str) -> None:
    address = polled_address(show(reader))
    for _ in range(number):
        keep(app, ago())

    assert text_of(reader.get(address).text) == message


def test_an_unchanged_offer_is_not_sent_again(reader: FlaskClient, app: Flask) -> None:
    address = polled_address(show(reader))
    keep(app, ago())

    first = reader.get(address)
    again = reader.get(address, headers={"If-None-Match": first.headers["ETag"]})
    keep(app, ago())
    changed = reader.get(address, headers={"If-None-Match": first.headers["ETag"]})

    (headers,) = re.findall(r"data-hx-headers='([^']+)'", first.text)
    assert json.loads(headers) == {"If-None-Match": first.headers["ETag"]}
    assert (again.status_code, again.data) == (304, b"")
    assert changed.status_code == 200


def test_the_checkbox_of_polling_is_remembered(reader: FlaskClient) -> None:
    assert '<input id="follow" type="checkbox" checked>' in show(reader)
    reader.set_cookie("follow", "off")

    assert '<input id="follow" type="checkbox">' in show(reader)


def test_the_end_of_the_session_is_shown_instead_of_new_attempts(reader: FlaskClient, rows: Rows) -> None:
    address = polled_address(show(reader))
    rows.query("update users set epoch = epoch + 1")

    by_polling = reader.get(address, headers=POLLING)
    by_click = reader.get("/results/", headers={"HX-Request": "true", "HX-Request-Type": "full"})

    assert (by_polling.status_code, text_of(by_polling.text)) == (401, "Сеанс закончился. Войти снова")
    assert (by_click.status_code, by_click.headers["HX-Refresh"]) == (401, "true")
