"""Text is sent compressed to those who can read it, and to nobody else."""

import gzip

import pytest
from flask.testing import FlaskClient

from tests.builders import ANNA, useradd

GZIP = {"Accept-Encoding": "gzip, deflate, br"}


@pytest.mark.parametrize(
    "address", ["/results/", "/login/", "/problems/", "/static/app.css", "/static/icons/lucide.svg"]
)
def test_pages_and_what_they_load_are_compressed(reader: FlaskClient, address: str) -> None:
    plain = reader.get(address, buffered=True)
    packed = reader.get(address, headers=GZIP, buffered=True)

    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.content_length == len(packed.data) < len(plain.data)
    assert gzip.decompress(packed.data)[-20:] == plain.data[-20:]
    for response in (plain, packed):
        assert "Accept-Encoding" in response.headers["Vary"]


def test_a_file_that_a_browser_has_is_not_sent_again(client: FlaskClient) -> None:
    first = client.get("/static/app.css", headers=GZIP, buffered=True)

    second = client.get("/static/app.css", headers=GZIP | {"If-None-Match": first.headers["ETag"]}, buffered=True)

    assert first.headers["ETag"].startswith("W/")
    assert (second.status_code, second.data) == (304, b"")


def test_the_length_of_a_page_betrays_nothing_of_it(reader: FlaskClient) -> None:
    lengths = {reader.get("/problems/", headers=GZIP).content_length for _ in range(20)}

    assert len(lengths) > 5


@pytest.mark.parametrize("address", ["/static/fonts/inter-latin-wght-normal.woff2", "/livez", "/api/v1/stats/"])
def test_what_would_not_shrink_and_what_programs_read_stays_as_it_is(reader: FlaskClient, address: str) -> None:
    response = reader.get(address, headers=GZIP, buffered=True)

    assert response.status_code == 200
    assert "Content-Encoding" not in response.headers


def test_answers_of_the_api_are_never_compressed(client: FlaskClient) -> None:
    response = useradd(client, ANNA, headers=GZIP)

    assert response.json is not None
    assert "Content-Encoding" not in response.headers
