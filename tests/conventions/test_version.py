"""Everything that names the version of the service names the same one."""

import json
import re
from datetime import date
from pathlib import Path

import pytest

from project.version import VERSION

ROOT = Path(__file__).parents[2]
PLACES = {
    "deploy/Dockerfile": r'org\.opencontainers\.image\.version="([^"]+)"',
    "deploy/kubernetes/kustomization.yaml": r'newTag: "([^"]+)"',
    "docs/deployment.md": r"useradd:(\d[\w.]*)",
    "docs/operations.md": r'"version": "([^"]+)"',
}
"""Files that name the version, with the pattern of the places."""


@pytest.mark.parametrize("path", PLACES)
def test_image_deployment_and_documents_name_the_version(path: str) -> None:
    assert set(re.findall(PLACES[path], (ROOT / path).read_text())) == {VERSION}


def test_the_openapi_document_names_the_version() -> None:
    document = json.loads((ROOT / "tests/functional/golden/openapi.json").read_text())

    assert document["info"]["version"] == VERSION


def test_the_newest_release_in_the_changelog_is_the_version_with_its_date() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    version, _, released = next(heading for heading in headings if heading != "Unreleased").partition(" - ")

    assert version == VERSION
    assert date.fromisoformat(released)
    assert "Unreleased" not in headings[1:]
