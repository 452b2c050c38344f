"""Templates: nothing from other hosts, nothing inline, nothing unescaped."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from jinja2 import StrictUndefined, TemplateSyntaxError, UndefinedError

from tests.builders import ANNA, HTML, useradd
from tests.conftest import Rows

TEMPLATES = Path(__file__).parents[2] / "project" / "templates"
STATIC = TEMPLATES.parent / "static"
SOURCES = sorted(path.relative_to(TEMPLATES).as_posix() for path in TEMPLATES.rglob("*.html"))
VOID = {"area", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}
SELF_CLOSING = {"rect", "line", "use", "path", "circle"}


@pytest.mark.parametrize("name", SOURCES)
def test_templates_have_no_syntax_errors(app: Flask, name: str) -> None:
    try:
        app.jinja_env.get_template(name)
    except TemplateSyntaxError as error:
        pytest.fail(str(error))


@pytest.mark.parametrize("name", SOURCES)
def test_templates_have_no_unescaped_output_and_no_inline_code(name: str) -> None:
    source = re.sub(r"\{#.*?#\}", "", _text(name), flags=re.DOTALL)

    assert not re.search(r"\|\s*safe\b|autoescape\s+false|Markup\(", source)
    assert not re.search(r"\sstyle\s*=|\son\w+\s*=|javascript:|<style|<script(?![^>]*\ssrc=)", source)
    assert not re.search(r"(?:href|src|action)=\"(?:https?:)?//", source)


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "flasgger/index.html"])
def test_every_word_of_a_template_is_translated(name: str) -> None:
    source = re.sub(
        r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}|<(?:code|pre)\b.*?</(?:code|pre)>", " ", _text(name), flags=re.DOTALL
    )
    visible = re.sub(r"<[^>]*>", " ", source)
    untranslated_words = {
        "center",
        "useradd",
        "Рус",
        "Eng",
        "Swagger",
        "openapi",
        "json",
        "csv",
        "xlsx",
        "txt",
        "Excel",
        "HTTP",
        "SHA",
        "PostgreSQL",
    }

    words = set(re.findall(r"[^\W\d_]{2,}", visible)) - untranslated_words

    assert words == set()


def test_an_undefined_variable_is_an_error(app: Flask) -> None:
    assert app.jinja_env.undefined is StrictUndefined
    with app.test_request_context(), pytest.raises(UndefinedError):
        app.jinja_env.from_string("{{ missing }}").render()


def test_static_files_refer_to_no_other_host() -> None:
    for path in (STATIC / "app.css", STATIC / "app.js", STATIC / "swagger.js"):
        assert not re.search(
            r"(?:https?:)?//(?!\s)[a-z]", re.sub(r"/\*.*?\*/|^\s*//.*$", "", path.read_text(), flags=re.M)
        )


def test_every_icon_is_in_the_sprite() -> None:
    drawn = set(re.findall(r'id="i-([\w-]+)"', (STATIC / "icons" / "lucide.svg").read_text()))
    sources = "".join(map(_text, SOURCES))

    used = set(re.findall(r'icon\("([\w-]+)"', sources)) | set(
        re.findall(r'"(?:ok|bad|down|same)": "([\w-]+)"', sources)
    )

    assert used <= drawn
    assert {"copy", "x", "check"} <= used


def test_every_css_class_has_a_rule() -> None:
    rules = set(re.findall(r"\.([a-z][\w-]*)", (STATIC / "app.css").read_text()))
    named = re.findall(r'class="([\w -]+)"', "".join(map(_text, (name for name in SOURCES if "flasgger" not in name))))

    used = {name for names in named for name in names.split()}

    assert used - rules == {"track"} - rules


PAGES = (
    "/login/",
    "/results/",
    "/results/?period=30d&result=rejected&code=invalid_phone&q=x",
    "/results/?period=dates&from=2026-03-10&to=2026-03-01",
    "/results/{id}/",
    "/results/none/",
    "/problems/validation_failed",
    "/logout/",
    "/state/",
    "/account/",
    "/admin/",
    "/admin/users/?search=x&active=yes",
    "/admin/users/{user}/",
    "/admin/users/{user}/reset/",
    "/admin/api-keys/",
    "/admin/audit/",
    "/admin/api-keys/new/",
    "/admin/imports/",
    "/admin/imports/new/",
)


@pytest.mark.parametrize("language", ["ru", "en"])
@pytest.mark.parametrize("address", PAGES)
def test_pages_are_well_formed_html(administrator: FlaskClient, rows: Rows, address: str, language: str) -> None:
    attempt_id = useradd(administrator, ANNA | {"phone": "1", "email": "x"}).headers["X-Request-Id"]
    path = address.format(id=attempt_id, user=rows.of("users")[0]["id"])
    separator = "&" if "?" in address else "?"

    response = administrator.get(f"{path}{separator}lang={language}", headers=HTML)
    page = _Page(response.text)

    assert page.title.strip(" ·") not in {"", "useradd"}
    assert page.title.endswith("· useradd")
    assert page.attributes["html"][0]["lang"] == language
    assert len(page.ids) == len(set(page.ids)), "an id is used twice"
    assert len(page.attributes["main"]) == len(page.attributes["h1"]) == 1
    for name in page.references:
        assert name in page.ids, f"{name} is referenced but does not exist"
    for address_of in page.addresses:
        assert re.match(r"[/?#]", address_of), address_of
        assert not address_of.startswith("//")
    for form in page.forms:
        assert form["method"] == "get" or "csrf_token" in form["fields"]


@pytest.mark.parametrize("address", [*PAGES[1:5], *PAGES[8:]])
def test_pages_label_every_field(administrator: FlaskClient, rows: Rows, address: str) -> None:
    attempt_id = useradd(administrator, ANNA).headers["X-Request-Id"]
    page = _Page(administrator.get(address.format(id=attempt_id, user=rows.of("users")[0]["id"])).text)

    labelled = {label["for"] for label in page.attributes.get("label", []) if label.get("for")}
    for tag in ("input", "select"):
        for field in page.attributes.get(tag, []):
            assert field.get("type") in {"hidden", "radio"} or field["id"] in labelled, field


def _text(name: str) -> str:
    return (TEMPLATES / name).read_text()


class _Page(HTMLParser):
    """A parsed page; unbalanced tags are an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.attributes: dict[str, list[dict[str, str]]] = {}
        self.title = ""
        self.forms: list[dict[str, str | list[str]]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.attributes.setdefault(tag, []).append(found)
        if tag == "form":
            self.forms.append({"method": found.get("method", "get"), "fields": []})
        if "name" in found and self.forms and "form" in self._open:
            fields = self.forms[-1]["fields"]
            assert isinstance(fields, list)
            fields.append(found["name"])
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SELF_CLOSING | VOID, tag
        self.attributes.setdefault(tag, []).append({name: value or "" for name, value in attrs})

    def handle_endtag(self, tag: str) -> None:
        assert self._open, tag
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["title"] and "svg" not in self._open:
            self.title += data

    @property
    def ids(self) -> list[str]:
        """All ids, in order."""
        return [one["id"] for one in self._all() if "id" in one]

    @property
    def references(self) -> set[str]:
        """All ids that are referenced on the page."""
        names = ("for", "aria-labelledby", "aria-describedby", "data-copy", "data-reveal")
        inside = {one["href"][1:] for one in self._all() if one.get("href", "").startswith("#")}
        return inside | {part for one in self._all() for name in names for part in one.get(name, "").split()}

    @property
    def addresses(self) -> list[str]:
        """All addresses that the page links to or loads."""
        return [one[name] for one in self._all() for name in ("href", "src", "action") if one.get(name)]

    def _all(self) -> Iterator[dict[str, str]]:
        return (one for found in self.attributes.values() for one in found)
