"""The text of the project: summaries of docstrings, and terms that it no longer uses."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = ("project", "tests", "bench", "tasks")
SUMMARY_LIMIT = 90
"""First lines of docstrings are shorter than that."""
CLAUSE = re.compile(r"\s*(?:How|What|When|Where|Who|Why|Let|Have|Say|Tell|Give)\b")
"""Beginnings that hide the unit or the verb: "How long to wait", not "Seconds to wait"; "Let X run", not "Start X"."""
SUFFIXES = {".py", ".md", ".html", ".sql"}
TERMS = {
    r"anew": "again",
    r"whoever": "anyone who",
    r"of late": "recently",
    r"handed on": "passed on",
    r"(?:counted )?beforehand": "pre-aggregated",
    r"made void": "revoked, invalidated",
    r"(?:is|are|was|were) away": "unavailable",
    r"mend(?:s|ed|ing)?": "fix",
    r"doors?": "blueprint, entry point",
    r"the floors?": "layer",
    r"(?:goes|go|went) on": "continue",
    r"told": "reported, confirmed",
    r"meanwhile it": "while it",
    r"wish(?:es)?": "hit of a rate limit",
    r"deeds?": "sensitive action",
    r"guests?": "client, user",
    r"catalogue": "error codes",
    r"of itself": "automatically",
    r"(?:retry|probe|start) in step": "at the same time",
    r"the own one": "their own",
    r"(?:a )?defects? of ours": "bug",
    r"tak(?:es?|en|ing) (?:it |them )?back": "subtract",
    r"users_away|statistics_away|database is away": "unavailable",
    r"decide_(?:group|alone|lines)": "execute, register",
    r"(?:put|log|day|refused)_heads": "headers",
    r"open_to_(?:all|keys)": "public, api_key_allowed",
    r"project[/.](?:outage|web)": "project/database, project/http, project/contract",
    r"tests[/.]house": "tests/conventions",
    r"bench[/.]figures": "bench/measurements",
    r"Flask-Admin": "-",
}
"""Pattern of a former word of the project -> the word to use instead."""
ALLOWED = {
    ("docs/adr/0030-names-and-layout.md", r"doors?"): "this decision lists the former names",
    ("docs/adr/0017-flask-admin.md", r"Flask-Admin"): "the decision for the library",
    ("docs/adr/0028-administration-without-flask-admin.md", r"Flask-Admin"): "the decision against the library",
    ("CHANGELOG.md", r"Flask-Admin"): "links the decision against the library",
}
"""Files that may contain a former word, with the reason."""


def test_the_summary_of_every_docstring_is_short() -> None:
    modules = [path for path in sorted(_files(*CODE)) if path.suffix == ".py"]
    found = [f"{path.relative_to(ROOT)}:{line}" for path in modules for line in _long_summaries(path.read_text())]

    assert modules
    assert not found, f"docstrings with a first line of {SUMMARY_LIMIT} or more characters:\n" + "\n".join(found)


def test_long_summaries_are_found_in_modules_classes_and_functions() -> None:
    summary = "x" * SUMMARY_LIMIT
    source = (
        f'"{summary}"\nclass A:\n    """{summary}\n\n    More."""\n    async def b(self):\n        "{summary[1:]}"\n'
    )

    assert list(_long_summaries(source)) == [1, 3]


def test_former_words_are_not_used() -> None:
    found = [
        f"{path}:{line}: {text!r}, use: {TERMS[term]}"
        for path, term, line, text in _uses()
        if (path, term) not in ALLOWED
    ]

    assert not found, "\n".join(found)


def test_every_exception_is_needed() -> None:
    assert set(ALLOWED) <= {(path, term) for path, term, *_ in _uses()}


@pytest.mark.parametrize(
    "text",
    [
        "the keys are MADE VOID",
        "# it was counted\n    # beforehand",
        "the\nfloors",
        "see `project/outage`",
        "two doors.",
    ],
)
def test_former_words_are_found_in_any_case_and_across_lines(text: str) -> None:
    assert list(_terms(text))


@pytest.mark.parametrize("text", ["grain.floor(moment)", "is_public", "an outdoor fire", "amended", "renewed", "going"])
def test_parts_of_other_words_are_not_found(text: str) -> None:
    assert list(_terms(text)) == []


def test_no_docstring_begins_with_a_clause_or_a_causative_verb() -> None:
    modules = [path for folder in CODE for path in sorted((ROOT / folder).rglob("*.py"))]
    found = [f"{path.relative_to(ROOT)}:{line}" for path in modules for line in _clauses(path.read_text())]

    assert not found, "docstrings that begin with How, What ... Let, Have ... :\n" + "\n".join(found)


def test_clauses_are_found_in_docstrings_of_functions_and_attributes() -> None:
    source = 'A = 1\n"""How long to wait."""\ndef b():\n    """Let it run."""\n    return """When"""\n"""Whatever."""\n'

    assert list(_clauses(source)) == [2, 4]


def _clauses(source: str) -> Iterator[int]:
    """Yield the lines of docstrings, also of attributes, that begin with one of these words."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))) if CLAUSE.match(text):
                yield node.lineno


def _long_summaries(source: str) -> Iterator[int]:
    """Yield the lines of docstrings whose first line is too long."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring and len(docstring.splitlines()[0]) >= SUMMARY_LIMIT:
                yield node.body[0].lineno


@cache
def _uses() -> list[tuple[str, str, int, str]]:
    """Return path, pattern, line and text of every former word in the project."""
    return [(path.relative_to(ROOT).as_posix(), *use) for path in _texts() for use in _terms(path.read_text())]


def _texts() -> Iterator[Path]:
    """Yield the files to search: not this one, and none that others have written."""
    files = [*ROOT.iterdir(), *_files(*CODE, "docs", "migrations")]
    deployed = [path for path in _files("deploy") if path.is_file() and "secrets" not in path.parts]
    for path in sorted({*deployed, ROOT / "run", *(path for path in files if path.suffix in SUFFIXES)}):
        if path != Path(__file__) and "vendor" not in path.parts:
            yield path


def _files(*folders: str) -> list[Path]:
    """Return all files below these folders, but none that npm has installed."""
    found = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    return [path for path in found if "node_modules" not in path.parts]


def _terms(text: str) -> Iterator[tuple[str, int, str]]:
    """Yield pattern, line and text of every former word.

    Words of a term may be on different lines, also of a comment.
    """
    for term in TERMS:
        pattern = term.replace(" ", r"(?:\s|#|--)+")
        for match in re.finditer(rf"\b(?:{pattern})\b", text, re.IGNORECASE):
            yield term, text.count("\n", 0, match.start()) + 1, match.group()
