"""The documents match the code."""

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """The script that generates tables in documents."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_tables_are_up_to_date(generate: ModuleType) -> None:
    for path, text in generate.documents().items():
        assert path.read_text() == text, f"{path.name} is stale: run .venv/bin/python docs/generate.py"


def test_every_generated_table_is_in_a_document(generate: ModuleType) -> None:
    texts = "".join(path.read_text() for path in generate.documents())

    assert all(f"<!-- {name} -->" in texts for name in generate.TABLES)


def test_both_readmes_have_the_same_sections_and_commands() -> None:
    english, russian = (ROOT / "README.md").read_text(), (ROOT / "README.ru.md").read_text()

    assert len(re.findall(r"^## ", english, re.MULTILINE)) == len(re.findall(r"^## ", russian, re.MULTILINE))
    assert _commands(english) == _commands(russian)


def test_links_between_documents_point_to_existing_files() -> None:
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"(?:\]\(|src(?:set)?=\")(?!https?:|#|mailto:)([^)#\"]+)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name} points to {target}"


def test_every_line_of_the_security_checklist_names_tests_that_exist() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    lines = re.findall(r"^\| S(\d+) \|.*$", text, re.MULTILINE)
    named = re.findall(r"`(\w+/test_\w+\.py)::(test_\w+)`", text)

    assert [int(number) for number in lines] == list(range(1, 76))
    assert len(re.findall(r"^\| S\d+ .*::test_", text, re.MULTILINE)) == len(lines)
    assert [f"{path}::{test}" for path, test in named if test not in _tests(path)] == []


def _tests(path: str) -> set[str]:
    return set(re.findall(r"^def (test_\w+)\(", (ROOT / "tests" / path).read_text(), re.MULTILINE))


@pytest.mark.slow
def test_running_the_generator_again_changes_nothing() -> None:
    before = {path: path.read_text() for path in [ROOT / "README.md", ROOT / ".env.example"]}

    subprocess.run([sys.executable, ROOT / "docs" / "generate.py"], check=True)

    assert {path: path.read_text() for path in before} == before


def test_every_log_event_is_documented() -> None:
    rows = re.findall(
        r"^\| (`[^|]+`) \| (?:INFO|WARNING|ERROR)", (ROOT / "docs/operations.md").read_text(), re.MULTILINE
    )
    documented = [event for row in rows for event in re.findall(r"`([^`]+)`", row)]

    assert sorted(documented) == sorted(_events())


def _events() -> set[str]:
    """Return the message of every log call: it names the event and must be constant."""
    found = set()
    for path in (ROOT / "project").rglob("*.py"):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        for call in calls:
            first = call.args[0] if call.args else None
            if ast.unparse(call.func) in {"log.info", "log.warning", "log.error", "log.exception"}:
                named = isinstance(first, ast.Constant) or ast.unparse(call).startswith("log.info(event,")
                assert named, f"{path}: {ast.unparse(call)}"
            elif not isinstance(call.func, ast.Name) or call.func.id not in {"_log", "_change_user"}:
                continue
            if isinstance(first, ast.Constant):
                found.add(str(first.value))
    return found


def _commands(text: str) -> list[str]:
    return [line.split(" -H")[0] for line in re.findall(r"^(?:\./run.*|curl .*)$", text, re.MULTILINE)]
