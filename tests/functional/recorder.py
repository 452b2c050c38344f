"""Records responses and compares them with golden files."""

import os
import re
from itertools import takewhile
from pathlib import Path
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from tests.builders import ADDRESS

FOLDER = Path(__file__).parent / "golden"
VARYING = (
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "UUID"),
    (re.compile(r"\b(?!2026-03-)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+03:00"), "TIME"),
    (re.compile(r'(?<="password": ")[a-z0-9-]+(?=")', re.IGNORECASE), "PASSWORD"),
    (re.compile(r'(?<="idempotency_key": ")(?!golden)[\w-]{32}(?=")'), "KEY"),
    (re.compile(r"(?<=Content-Length: )\d+"), "LENGTH"),
)
CONSTANT = (
    "Content-Security-Policy",
    "X-Content-Type-Options",
    "Referrer-Policy",
    "Permissions-Policy",
    "Cross-Origin-",
)
"""Headers that test_headers checks on every response."""


class Recorder:
    """Sends requests and keeps their responses as the golden files show them."""

    def __init__(self, app: Flask, language: str) -> None:
        self.client = app.test_client()
        self._language = language
        self._responses: list[str] = []

    def send(
        self, name: str, address: str = ADDRESS, method: str = "POST", headers: Any = (), **kwargs: Any
    ) -> TestResponse:
        """Send a request; record the response without values that change between runs."""
        headers = {"Accept-Language": self._language, **dict(headers)}
        response = self.client.open(address, method=method, headers=headers, **kwargs)
        shown = sorted(_shown(*header) for header in response.headers if not header[0].startswith(CONSTANT))
        text = "\n".join([f"##### {method} {address} {name}".strip(), response.status, *shown, "", response.text, ""])
        for pattern, substitute in VARYING:
            text = pattern.sub(substitute, text)
        self._responses.append(text)
        return response

    def check(self, file: str) -> None:
        """Compare all responses with a golden file."""
        check(file, "\n".join(self._responses))


def _shown(header: str, value: str) -> str:
    if header == "Allow":  # Flask makes it from a set
        value = ", ".join(sorted(value.split(", ")))
    return f"{header}: {value}"


def check(file: str, text: str) -> None:
    """Compare a text with its golden file, or write that file when the environment says so."""
    path = FOLDER / file
    if os.environ.get("GOLDEN_WRITE") == "1":
        path.write_bytes(text.encode())
    expected = path.read_bytes().decode()
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(text, expected, strict=False)))
    nearby = slice(max(0, same - 300), same + 300)  # pytest needs minutes to show how long lines differ
    assert text[nearby] == expected[nearby], f"{file} differs after {same} characters"
    assert len(text) == len(expected)
