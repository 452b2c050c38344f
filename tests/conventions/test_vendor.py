"""Pages load only own files and vendored files of the documented version."""

import json
import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2] / "project"
VENDOR = PROJECT / "static" / "vendor"
SWAGGER_UI, HTMX = "5.35.0", "4.0.1"
OURS = sorted(
    path
    for folder in ("static", "templates")
    for path in (PROJECT / folder).rglob("*")
    if path.suffix in {".css", ".html", ".js", ".svg"} and VENDOR not in path.parents
)
NAMESPACE = "http://www.w3.org/2000/svg"


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.relative_to(PROJECT).as_posix())
def test_own_files_refer_to_no_other_host(path: Path) -> None:
    named = set(re.findall(r"https?://[^\s\"'<>)]*", path.read_text()))

    assert named <= {NAMESPACE}


def test_all_types_of_own_files_are_checked() -> None:
    assert {path.suffix for path in OURS} == {".css", ".html", ".js", ".svg"}
    assert {"app.css", "app.js", "swagger.js", "base.html"} <= {path.name for path in OURS}


def test_stylesheets_load_only_local_files() -> None:
    style = PROJECT / "static" / "app.css"

    loaded = re.findall(r"url\(\s*[\"']?([^\"')]+)", style.read_text())

    assert loaded
    assert [name for name in loaded if not (style.parent / name).is_file()] == []
    assert "@import" not in style.read_text()


def test_swagger_ui_has_the_version_of_its_readme() -> None:
    readme = (VENDOR / "swagger-ui" / "README.md").read_text()
    bundle = (VENDOR / "swagger-ui" / "swagger-ui-bundle.js").read_text()

    assert set(re.findall(r"\d+\.\d+\.\d+", readme)) == {SWAGGER_UI}
    assert json.dumps(SWAGGER_UI) in bundle


def test_htmx_has_the_version_of_its_readme() -> None:
    readme = (VENDOR / "htmx" / "README.md").read_text()
    script = (VENDOR / "htmx" / "htmx.min.js").read_text()

    assert set(re.findall(r"\d+\.\d+\.\d+", readme)) == {HTMX}
    assert f'this.version="{HTMX}"' in script


def test_templates_use_no_htmx_feature_that_needs_eval() -> None:
    templates = "".join(path.read_text() for path in (PROJECT / "templates").rglob("*.html"))

    assert "hx-trigger=" in templates
    assert not re.search(r"hx-on|hx-vals=.js|hx-headers=.js|hx-confirm|hx-trigger=\"[^\"]*\[", templates)


@pytest.mark.parametrize("name", ["swagger-ui/swagger-ui-bundle.js", "swagger-ui/swagger-ui.css", "htmx/htmx.min.js"])
def test_vendored_files_refer_to_no_source_map(name: str) -> None:
    assert "sourceMappingURL" not in (VENDOR / name).read_text()


@pytest.mark.parametrize("folder", ["vendor/swagger-ui", "vendor/htmx", "fonts", "icons"])
def test_third_party_files_have_their_licence_beside_them(folder: str) -> None:
    licence = PROJECT / "static" / folder / "LICENSE"

    assert len(licence.read_text()) > 500


def test_nothing_else_is_vendored() -> None:
    assert {path.name for path in VENDOR.iterdir()} == {"swagger-ui", "htmx"}
