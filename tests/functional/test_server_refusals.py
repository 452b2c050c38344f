"""Problem documents for requests that the server refuses before the application sees them."""

import json
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from project.contract.problems import describe_refusal

REASON = {"reason": "Invalid chunk size"}
LENGTHS = {"received": 4, "length": 9}


def refusal(app: Flask, status: int, params: dict[str, Any], language: str = "en") -> tuple[dict[str, str], Any]:
    """Return headers and problem document."""
    headers, body = describe_refusal(app, status, params, language)
    return dict(headers), json.loads(body)


@pytest.mark.parametrize(
    ("status", "code", "detail"),
    [
        (400, "bad_request", "The request is not valid HTTP: Invalid chunk size."),
        (408, "request_timeout", "The request did not arrive completely within 20 seconds. Send it again."),
        (413, "body_too_large", "At most 16 KB are accepted: send one user and nothing else."),
        (431, "head_too_large", "Address and headers may have 16 KB in all: send fewer or shorter headers."),
        (
            501,
            "transfer_coding_not_supported",
            "Send the body with Content-Length, or with Transfer-Encoding: chunked.",
        ),
        (505, "http_version_not_supported", "Use HTTP/1.1."),
    ],
)
def test_a_request_that_the_server_refuses_gets_a_problem_document(
    app: Flask, client: FlaskClient, status: int, code: str, detail: str
) -> None:
    headers, document = refusal(app, status, REASON)

    assert (document["status"], document["code"], document["detail"]) == (status, code, detail)
    assert document["recorded"] is False
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["X-Request-Id"] == document["request_id"]
    assert ("Retry-After" in headers) == (status == 408)
    assert client.get(document["type"]).status_code == 200


def test_a_body_of_several_users_may_be_as_large_as_its_path_allows(app: Flask) -> None:
    document = refusal(app, 413, {"limit": 8 * 2**20})[1]

    assert document["detail"] == "At most 8192 KB are accepted: split the list."


def test_a_body_that_is_shorter_than_its_content_length_is_explained(app: Flask) -> None:
    assert refusal(app, 400, LENGTHS)[1]["detail"] == (
        "Only 4 of 9 bytes of the body were sent: Content-Length counts bytes, not letters."
    )
    assert refusal(app, 408, LENGTHS)[1]["detail"].startswith("Only 4 of 9 bytes of the body arrived")


def test_the_refusal_is_in_the_language_of_the_client(app: Flask) -> None:
    headers, document = refusal(app, 505, REASON, "ru, en;q=0.5")

    assert headers["Content-Language"] == "ru"
    assert document["detail"] == "Используйте HTTP/1.1."
