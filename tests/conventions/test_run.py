"""The launcher: its messages, when it installs, and the lock files it writes."""

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

from config import settings

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.txt", "requirements-dev.txt")


@pytest.fixture
def run(tmp_path: Path) -> ModuleType:
    """The launcher as a module, for a separate checkout."""
    loader = SourceFileLoader("run", str(ROOT / "run"))
    spec = spec_from_loader("run", loader)
    assert spec
    module = module_from_spec(spec)
    loader.exec_module(module)
    vars(module).update(ROOT=tmp_path, VENV=tmp_path / ".venv", PYTHON=Path(sys.executable))
    (tmp_path / ".venv").mkdir()
    (tmp_path / "requirements.txt").write_text("Flask==3.1.3\n")
    return module


def pins(lock: str) -> dict[str, str]:
    """Return the pinned requirements of a lock with their markers."""
    lines = (ROOT / lock).read_text().splitlines()
    return dict(line.removesuffix(" \\").split("==", 1) for line in lines if not line.startswith((" ", "#")))


def test_the_launcher_runs_in_sh_with_an_empty_environment() -> None:
    answer = subprocess.run(["/bin/sh", ROOT / "run", "help"], env={"PATH": "/usr/bin:/bin"}, capture_output=True)

    assert answer.returncode == 0
    assert answer.stdout.startswith(b"useradd")


def test_help_lists_every_command(run: ModuleType) -> None:
    commands = {"test", "torture", "fuzz", "bench", "flask", "lock", "audit", "sbom", "help"}

    assert commands <= set(re.findall(r"\./run (\w+)", run.HELP))


def test_an_unknown_command_prints_the_help(run: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"no command 'bogus'[\s\S]*\./run test"):
        run.main(["bogus"])


def test_requirements_are_not_installed_again_until_the_lock_file_changes(run: ModuleType, tmp_path: Path) -> None:
    (run.VENV / "requirements.txt.installed").write_text(run.stamp("requirements.txt"))
    before = run.is_installed("requirements.txt")

    (tmp_path / "requirements.txt").write_text("Flask==3.1.4\n")

    assert (before, run.is_installed("requirements.txt")) == (True, False)


def test_a_moved_virtual_environment_is_detected(run: ModuleType) -> None:
    run.home_file().write_text(run.home())
    before = run.works()

    run.home_file().write_text(run.home().replace(".venv", "elsewhere/.venv"))

    assert (before, run.works()) == (True, False)


def test_the_settings_of_the_service_do_not_reach_the_tests(run: ModuleType) -> None:
    passed_on = {name for name in settings() if name.upper().startswith(run.KEPT)}

    assert not passed_on


def test_tests_that_need_an_unavailable_program_are_skipped_with_a_warning(
    run: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CI", raising=False)
    need = run.Need("deploy", "nginx", lambda: None, (), ("false",))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert run.find(need) is None
    assert "the tests marked deploy were LEFT OUT" in capsys.readouterr().err


def test_under_ci_an_unavailable_program_is_a_failure(run: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(SystemExit, match="under CI"):
        run.find(run.Need("deploy", "nginx", lambda: None, ()))


def test_a_missing_program_is_installed_once_and_then_found(
    run: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    need = run.Need("deploy", "it", lambda: str(program) if program.exists() else None, (), ("touch", str(program)))

    assert run.find(need) == str(program)


def test_the_marks_of_the_launcher_are_the_markers_of_pytest(run: ModuleType) -> None:
    marks = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["markers"]

    assert {*(need.mark for need in run.NEEDS), *run.ALONE, *run.LEFT_OUT} == {mark.partition(":")[0] for mark in marks}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_file_contains_no_url(lock: str) -> None:
    text = (ROOT / lock).read_text()

    assert not re.findall(r"://|--index|--extra-index|--find-links|file:", text)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_of_a_lock_file_has_a_hash(lock: str) -> None:
    requirements = re.split(r"\n(?=\S)", (ROOT / lock).read_text().strip())

    assert [name for name in requirements if "--hash=sha256:" not in name] == []


def test_production_requirements_are_pinned_to_the_same_versions_in_development() -> None:
    runs, checks = map(pins, LOCKS)

    assert runs
    assert {name: checks.get(name) for name in runs} == runs


@pytest.mark.slow
def test_the_bill_of_materials_names_every_pinned_package_with_its_hashes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "run", "sbom", tmp_path / "sbom.json"], check=True)

    components = json.loads((tmp_path / "sbom.json").read_text())["components"]
    found = {(one["name"], one["version"]) for one in components}
    assert found == {(name, version.partition(" ")[0]) for name, version in pins("requirements.txt").items()}
    assert all(one["externalReferences"][0]["hashes"] for one in components)
