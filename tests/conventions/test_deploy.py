"""Every file in deploy/ is used by a test and mentioned in a document."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
FILES = [path for path in sorted(DEPLOY.rglob("*")) if path.is_file() and "secrets" not in path.parts]
TESTS = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__))
DOCUMENTS = "".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_every_file_is_used_by_a_test_and_documented(path: Path) -> None:
    assert path.name in TESTS or f'"{path.parent.name}"' in TESTS
    assert path.name in DOCUMENTS or f"{path.parent.name}/*" in DOCUMENTS or f"deploy/{path.parent.name})" in DOCUMENTS
