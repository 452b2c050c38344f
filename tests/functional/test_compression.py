"""Compression of pages and static files for clients that accept it."""

import gzip

import pytest
from flask.testing import FlaskClient

from tests.builders import ANNA, useradd

GZIP = {"Accept-Encoding": "gzip, deflate, br"}


@pytest.mark.parametrize(
    "address", ["/results/", "/login/", "/problems/", "/static/app.css", "/static/icons/lucide.svg"]
)
def test_pages_and_their_static_files_are_compressed(reader: FlaskClient, address: str) -> None:
    plain = reader.get(address, buffered=True)
    compressed = reader.get(address, headers=GZIP, buffered=True)

    assert "Content-Encoding" not in plain.headers
    assert compressed.headers["Content-Encoding"] == "gzip"
    assert compressed.content_length == len(compressed.data) < len(plain.data)
    assert gzip.decompress(compressed.data)[-20:] == plain.data[-20:]
    for response in (plain, compressed):
        assert "Accept-Encoding" in response.headers["Vary"]


def test_a_cached_static_file_is_not_sent_again(client: FlaskClient) -> None:
    first = client.get("/static/app.css", headers=GZIP, buffered=True)

    second = client.get("/static/app.css", headers=GZIP | {"If-None-Match": first.headers["ETag"]}, buffered=True)

    assert first.headers["ETag"].startswith("W/")
    assert (second.status_code, second.data) == (304, b"")


def test_the_length_of_a_compressed_page_is_randomized(reader: FlaskClient) -> None:
    lengths = {reader.get("/problems/", headers=GZIP).content_length for _ in range(20)}

    assert len(lengths) > 5


@pytest.mark.parametrize("address", ["/static/fonts/inter-latin-wght-normal.woff2", "/livez", "/api/v1/stats/"])
def test_compressed_formats_and_responses_for_programs_are_not_compressed(reader: FlaskClient, address: str) -> None:
    response = reader.get(address, headers=GZIP, buffered=True)

    assert response.status_code == 200
    assert "Content-Encoding" not in response.headers


def test_responses_of_useradd_are_never_compressed(client: FlaskClient) -> None:
    response = useradd(client, ANNA, headers=GZIP)

    assert response.json is not None
    assert "Content-Encoding" not in response.headers
