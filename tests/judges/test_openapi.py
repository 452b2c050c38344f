"""The OpenAPI document before two linters, and in clients that three generators make of it."""

import json
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flask import Flask

from project.runtime import get_runtime
from project.services import api_keys
from tasks import judges
from tests.conftest import reset_service
from tests.judges.programs import FOLDER, MODULES, run, run_node
from tests.serving import serve

CLIENTS = FOLDER / "clients"
REDOCLY = "@redocly/cli/bin/cli.js"
SPECTRAL = "@stoplight/spectral-cli/dist/index.js"
TYPESCRIPT = "openapi-typescript/bin/cli.js"
ORVAL = "orval/dist/bin/orval.mjs"
TSC = "typescript/bin/tsc"
PYTHON_SETTINGS = {
    "post_hooks": [],
    "content_type_overrides": {
        "application/x-ndjson": "application/octet-stream",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "application/octet-stream",
    },
}
PYTHON_OPTIONS = (
    *("generate", "--path", "openapi.json", "--config", "python.json"),
    *("--output-path", "generated_client", "--meta", "none", "--fail-on-warning"),
)


@pytest.fixture(scope="module")
def document(app: Flask, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The served document as a file, one line a value."""
    path = tmp_path_factory.mktemp("openapi") / "openapi.json"
    served = app.test_client().get("/openapi.json").json
    path.write_text(json.dumps(served, indent=1))
    return path


@pytest.fixture(scope="module")
def address(app: Flask) -> Iterator[str]:
    """Base URL of the service."""
    with serve(app) as address:
        yield address


@pytest.fixture(scope="module")
def clients(document: Path, address: str) -> Path:
    """Generate all clients in a folder, next to the programs that use them."""
    folder = document.parent
    shutil.copytree(CLIENTS, folder, dirs_exist_ok=True)
    (folder / "node_modules").symlink_to(MODULES)
    (folder / "orval.config.mjs").write_text(
        f"export default {{useradd: {{input: 'openapi.json', "
        f"output: {{target: 'orval.ts', client: 'fetch', baseUrl: '{address}'}}}}}};"
    )
    (folder / "python.json").write_text(json.dumps(PYTHON_SETTINGS))
    generators = (
        lambda: run_node(TYPESCRIPT, document, "--output", "schema.ts", cwd=folder),
        lambda: run_node(ORVAL, cwd=folder),
        lambda: run(Path(sys.executable).with_name("openapi-python-client"), *PYTHON_OPTIONS, cwd=folder),
    )
    with ThreadPoolExecutor() as pool:
        for generated in [pool.submit(generate) for generate in generators]:
            generated.result()
    return folder


@pytest.fixture
def key(app: Flask) -> str:
    """An API key, on empty tables."""
    reset_service(app)
    with app.app_context():
        return api_keys.issue_key(get_runtime(app).database, "a program", by=None).key


def test_redocly_has_no_objection_to_the_document(document: Path) -> None:
    run_node(REDOCLY, "lint", "--config", FOLDER / "redocly.yaml", document)


def test_spectral_has_no_objection_to_the_document(document: Path) -> None:
    run_node(SPECTRAL, "lint", "--ruleset", FOLDER / "spectral.yaml", "--fail-severity", "hint", document)


def test_the_generated_typescript_is_correct_to_the_compiler(clients: Path) -> None:
    run_node(TSC, "--project", clients, cwd=clients)


@pytest.mark.parametrize("program", ["python_client.py", "openapi_fetch.ts", "orval_client.ts"])
def test_a_generated_client_creates_a_user_is_refused_and_reads(
    clients: Path, address: str, key: str, program: str
) -> None:
    interpreter = Path(sys.executable) if program.endswith(".py") else judges.find_node()

    printed = json.loads(run(interpreter, program, address, key, cwd=clients))

    login = printed["created"][1]
    assert printed == {
        "created": [201, login, "1990-12-31"],
        "conflict": [409, "conflict", ["username_taken", "phone_taken"]],
        "invalid": [422, "validation_failed", ["name", "phone"]],
        "stats": [200, 3, "Europe/Moscow"],
        "attempts": ["blank", "username_taken"],
        "attempt": [login, "created"],
    }
    assert login.startswith("anna.")
