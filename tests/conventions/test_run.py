"""`./run` and its tasks: commands, installations, output, and the lock files."""

import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

from config import settings
from tasks import __main__ as dispatch
from tasks import checks, judges, psql, system_packages
from tasks.system_packages import REQUIREMENTS, Requirement, SystemPackage

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.txt", "requirements-dev.txt")
ALL_LOCKS = (*LOCKS, "requirements-otel.txt", "requirements-judges.txt")
Calls = list[tuple[str, ...]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The launcher as a module, for a checkout of its own."""
    monkeypatch.chdir(tmp_path)  # main() changes the directory; this restores it for the tests that follow
    loader = SourceFileLoader("run", str(ROOT / "run"))
    spec = spec_from_loader("run", loader)
    assert spec
    module = module_from_spec(spec)
    loader.exec_module(module)
    venv = tmp_path / ".venv"
    vars(module).update(ROOT=tmp_path, VENV=venv, PYTHON=Path(sys.executable), IDENTITY_FILE=venv / "made-for")
    venv.mkdir()
    (tmp_path / "requirements.txt").write_text("Flask==3.1.3\n")
    return module


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The commands that a task would run. They are recorded instead of run.

    Environment variables of this machine have no effect.
    """
    calls: Calls = []
    monkeypatch.setattr(checks, "run_tool", lambda *command, **_: calls.append(command))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("SYSTEM_PACKAGES", raising=False)
    return calls


def nginx_requirement(path: str | None = None, alternative: tuple[str, ...] = ()) -> Requirement:
    """Return a requirement that is met by a program at this path."""
    package = SystemPackage("nginx", lambda: path if path and Path(path).exists() else None)
    return Requirement("deploy", "proxies", (package,), alternative)


def pins(lock: str) -> dict[str, str]:
    """Return the pinned requirements of a lock with their markers."""
    lines = (ROOT / lock).read_text().splitlines()
    return dict(line.removesuffix(" \\").split("==", 1) for line in lines if not line.startswith((" ", "#")))


def test_the_launcher_is_valid_for_sh_without_any_environment() -> None:
    answer = subprocess.run(["/bin/sh", ROOT / "run", "help"], env={"PATH": "/usr/bin:/bin"}, capture_output=True)

    assert answer.returncode == 0
    assert answer.stdout.startswith(b"useradd")


def test_a_python_that_is_too_old_is_named_in_the_message(tmp_path: Path) -> None:
    launcher = tmp_path / "run"
    launcher.write_text((ROOT / "run").read_text().replace("HELP =", "sys.version_info = (3, 10)\nHELP =", 1))

    answer = subprocess.run([sys.executable, launcher, "help"], capture_output=True, text=True)

    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.startswith("run: Python 3.11 or newer is required, this is ")


def test_help_lists_every_command(run: ModuleType) -> None:
    tasks = {*dispatch.FUNCTIONS, *dispatch.MODULES}

    assert set(re.findall(r"^  \./run (\w+)", run.HELP, re.MULTILINE)) == {*tasks, "flask", "help"}
    assert tasks == {*run.TASKS, "demo", "psql", "lock"}


@pytest.mark.slow
@pytest.mark.parametrize(("options", "code", "text"), [("--help", 0, "--minutes"), ("--minutes=x", 2, "invalid float")])
def test_run_cluster_parses_its_options_before_it_installs_packages(options: str, code: int, text: str) -> None:
    command = [sys.executable, "-m", "tests.cluster", options]

    answer = subprocess.run(command, cwd=ROOT, env={"PATH": ""}, capture_output=True, text=True)  # no programs, no apt

    assert answer.returncode == code
    assert text in answer.stdout + answer.stderr


def test_an_unknown_command_ends_with_the_help(run: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"no command 'bogus'[\s\S]*\./run test"):
        run.main(["bogus"])


@pytest.mark.parametrize(
    ("command", "prepared"),
    [
        ("check", ["requirements-dev.txt"]),
        ("psql", ["requirements.txt"]),
        ("lock", []),
    ],
)
def test_a_command_installs_only_what_it_needs(run: ModuleType, command: str, prepared: list[str]) -> None:
    installed: list[str] = []
    started: Calls = []
    vars(run).update(prepare_venv=installed.append, execute=lambda *command: started.append(command))

    run.main([command, "--option"])

    assert installed == prepared
    assert started == [(run.PYTHON if prepared else sys.executable, "-m", "tasks", command, "--option")]


def test_a_lock_can_be_made_with_nothing_but_the_standard_library() -> None:
    command = [sys.executable, "-S", "-c", "import tasks.__main__"]

    assert subprocess.run(command, cwd=ROOT).returncode == 0


def test_what_is_installed_is_not_installed_again_until_the_lock_changes(run: ModuleType, tmp_path: Path) -> None:
    (run.VENV / "requirements.txt.installed").write_text(run.fingerprint("requirements.txt"))
    before = run.is_installed("requirements.txt")

    (tmp_path / "requirements.txt").write_text("Flask==3.1.4\n")

    assert (before, run.is_installed("requirements.txt")) == (True, False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a program as another user")
@pytest.mark.parametrize("unwritable", [".", ".venv"])
def test_a_clone_or_environment_of_another_user_is_refused_in_one_line(unwritable: str) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    with tempfile.TemporaryDirectory() as name:  # not tmp_path, whose parents are closed to others
        clone = Path(name).resolve()
        clone.chmod(0o755)
        (clone / ".venv").mkdir()
        shutil.copy(ROOT / "run", clone)
        if unwritable != ".":
            os.chown(clone, nobody, -1)

        command = ["/bin/sh", str(clone / "run")]
        environment = {"PATH": "/usr/bin:/bin"}
        result = subprocess.run(command, user=nobody, env=environment, capture_output=True, text=True, timeout=60)

    message = (
        f"run: no permission to write to {clone / unwritable}. Run as its owner, or clone to a directory of your own\n"
    )
    assert (result.returncode, result.stderr) == (1, message)


def test_a_moved_environment_is_not_usable(run: ModuleType) -> None:
    run.IDENTITY_FILE.write_text(run.current_identity())
    before = run.is_usable()

    run.IDENTITY_FILE.write_text(run.current_identity().replace(".venv", "elsewhere/.venv"))

    assert (before, run.is_usable()) == (True, False)


def test_the_settings_of_the_service_do_not_reach_the_tests() -> None:
    variables = {name.upper(): "value" for name in settings()}

    assert checks.filtered_environment(variables | {"PATH": "/bin"}) == {"PATH": "/bin"}


def test_check_runs_the_linters_that_test_runs_first(commands: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYSTEM_PACKAGES", "0")
    checks.check([])
    linters = list(commands)
    commands.clear()

    checks.test([])

    assert [call[0] for call in linters] == ["ruff", "ruff", "mypy", "lint-imports"]
    assert commands[: len(linters)] == linters
    assert {call[0] for call in commands[len(linters) :]} == {"pytest"}


def test_fix_formats_and_reports_what_it_cannot_fix(commands: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*command: str) -> int:
        commands.append(command)
        return 1

    monkeypatch.setattr(checks, "tool_exit_code", fails)

    with pytest.raises(SystemExit) as end:
        checks.fix([])

    assert end.value.code == 1
    assert commands == [("ruff", "check", "--fix", ".", "run"), ("ruff", "format", ".", "run")]


@pytest.mark.parametrize("command", ["check", "fix"])
def test_a_task_without_options_refuses_them(command: str, commands: Calls) -> None:
    with pytest.raises(SystemExit, match="takes no options"):
        dispatch.FUNCTIONS[command](["--fast"])

    assert commands == []


def test_test_prints_its_duration_and_what_it_will_install_before_it_starts(
    commands: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    program = str(tmp_path / "nginx")
    monkeypatch.setattr(checks, "REQUIREMENTS", [nginx_requirement(program, ("touch", program))])
    monkeypatch.setattr(system_packages, "find_chromium", lambda: "/usr/bin/chromium")

    checks.test([])

    printed = capsys.readouterr().err.splitlines()
    assert "about 14 minutes" in printed[0]
    assert printed[2:] == [
        f"== Missing for the tests marked deploy (proxies): nginx; will be installed: touch {program}",
        "== SYSTEM_PACKAGES=0 ./run test installs nothing and skips these tests",
        f"== installing for the tests marked deploy: touch {program}",
    ]
    assert any(call[:3] == ("pytest", "-m", "chaos or deploy") for call in commands)


@pytest.mark.parametrize("ci", ["", "true"])
def test_system_packages_0_installs_nothing_and_lists_what_is_not_tested_first_and_last(
    ci: str, commands: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    program = tmp_path / "nginx"
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("SYSTEM_PACKAGES", "0")
    monkeypatch.setattr(checks, "REQUIREMENTS", [nginx_requirement(str(program), ("touch", str(program)))])
    monkeypatch.setattr(system_packages, "find_chromium", lambda: "/usr/bin/chromium")

    checks.test([])

    printed = capsys.readouterr().err.splitlines()
    assert not program.exists()
    assert printed[2:] == 2 * [
        "WARNING: NOT TESTED: proxies (the tests marked deploy), because these packages are missing: nginx"
    ]
    assert any(call[:3] == ("pytest", "-m", "chaos") for call in commands)
    assert all("not deploy" in call[2] for call in commands if call[:2] == ("pytest", "-m") and "not" in call[2])


def test_system_packages_0_uses_what_is_installed(
    commands: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SYSTEM_PACKAGES", "0")
    monkeypatch.setattr(checks, "REQUIREMENTS", [nginx_requirement(sys.executable)])
    monkeypatch.setattr(system_packages, "find_chromium", lambda: "/usr/bin/chromium")

    checks.test(["tests/deploy"])

    assert commands == [("pytest", "tests/deploy")]
    assert capsys.readouterr().err == ""


def test_another_value_of_system_packages_is_refused(commands: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYSTEM_PACKAGES", "no")

    with pytest.raises(SystemExit, match="SYSTEM_PACKAGES is 'no', but must be 0"):
        system_packages.provide([nginx_requirement()])


def test_root_on_debian_installs_only_the_missing_packages(commands: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    both = Requirement(
        "deploy", "proxies", (SystemPackage("openssl", lambda: "openssl"), *nginx_requirement().packages)
    )
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/apt-get")

    message = system_packages.planned_message(both, both.missing_packages())

    assert message.endswith("nginx; will be installed: apt-get install -y --no-install-recommends nginx")


def test_what_pip_and_npm_install_needs_neither_root_nor_debian(commands: Calls) -> None:
    packages = (SystemPackage("npm packages", lambda: None, ("install", "them")), *nginx_requirement().packages)

    [own] = system_packages.installation_methods(Requirement("judges", "pages", packages[:1]), packages[:1])
    both = list(system_packages.installation_methods(Requirement("both", "all", packages), packages))

    assert own == (("install", "them"),)
    assert both == []


def test_the_judges_are_installed_as_soon_as_one_of_their_locks_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    locks = {name: tmp_path / name.lower() for name in ("PYTHON_LOCK", "NODE_LOCK", "INSTALLED")}
    for name, path in locks.items():
        path.write_text("a==1")
        monkeypatch.setattr(judges, name, path)
    monkeypatch.setattr(judges, "find_node", lambda: Path("node"))
    found = [judges.find_judges()]

    for name in ("PYTHON_LOCK", "NODE_LOCK"):
        locks["INSTALLED"].write_text(judges.fingerprint())
        found.append(judges.find_judges())
        locks[name].write_text("a==2")
        found.append(judges.find_judges())

    assert found == [None, "node", None, "node", None]


def test_the_lock_of_npm_names_no_registry_and_has_a_hash_for_every_package() -> None:
    packages = json.loads(judges.NODE_LOCK.read_text())["packages"]
    wanted = json.loads((judges.FOLDER / "package.json").read_text())["dependencies"]

    assert packages.pop("")["dependencies"] == wanted
    assert [name for name, one in packages.items() if "resolved" in one or "integrity" not in one] == []


def test_a_program_that_cannot_be_installed_skips_its_tests_with_a_warning(
    commands: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    requirement = nginx_requirement(alternative=("sh", "-c", "echo no network; exit 1"))

    assert system_packages.provide([requirement]) == [requirement]
    printed = capsys.readouterr().err
    assert "\nno network\n" in printed
    assert "NOT TESTED: proxies (the tests marked deploy)" in printed


def test_under_ci_a_program_that_cannot_be_installed_is_a_failure(
    commands: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")

    with pytest.raises(SystemExit, match="under CI"):
        system_packages.provide([nginx_requirement()])


def test_a_missing_program_is_installed_once_and_then_found(commands: Calls, tmp_path: Path) -> None:
    requirement = nginx_requirement(str(tmp_path / "nginx"), ("touch", str(tmp_path / "nginx")))

    assert system_packages.provide([requirement]) == []
    assert requirement.missing_packages() == []


def test_marks_that_are_skipped_or_run_exclusively_are_marks_of_pytest() -> None:
    marks = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["markers"]
    used = {*(requirement.mark for requirement in REQUIREMENTS), *checks.EXCLUSIVE_MARKS, *checks.SLOW_MARKS}

    assert used == {mark.partition(":")[0] for mark in marks}


def test_tests_that_are_not_repeated_on_another_postgresql_exist() -> None:
    assert [path for path in checks.SAME_ON_EVERY_POSTGRES if not (ROOT / path).is_file()] == []


@pytest.mark.slow
def test_psql_opens_a_shell_on_the_database_of_the_service(postgres_url: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tasks", "psql", "--tuples-only", "-c", "select current_database(), 6 * 7"]
    elsewhere = {"PGSERVICE": "elsewhere", "PGHOSTADDR": "192.0.2.1"}
    environment = {"PATH": os.environ["PATH"], "DATA_DIR": str(tmp_path), "DATABASE_URL": postgres_url}

    answer = subprocess.run(command, cwd=ROOT, env=environment | elsewhere, capture_output=True, text=True)

    assert answer.stderr == ""
    assert answer.stdout.replace(" ", "").strip() == f"{postgres_url.rpartition('/')[2]}|42"


@pytest.mark.slow
def test_psql_keeps_the_embedded_server_running_until_it_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tasks", "psql", "--tuples-only", "-c", "select pg_sleep(1)", "-c", "select 42"]
    environment = {"PATH": os.environ["PATH"], "DATA_DIR": str(tmp_path), "DATABASE_URL": ""}
    location = tmp_path / "postgres" / "location"  # exists where root cannot run the server in the data directory

    try:
        answer = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    finally:
        if location.exists():
            shutil.rmtree(location.read_text())

    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.split() == ["42"]


@pytest.mark.slow
def test_psql_reports_the_exit_code_of_a_failed_statement(postgres_url: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tasks", "psql", "-c", "select nonsense"]
    environment = {"PATH": os.environ["PATH"], "DATA_DIR": str(tmp_path), "DATABASE_URL": postgres_url}

    assert subprocess.run(command, cwd=ROOT, env=environment, capture_output=True).returncode == 1


def test_the_password_of_psql_is_only_in_its_environment() -> None:
    url = "postgresql+psycopg2://anna:s%40cret@/shop?host=one:5433&host=two:5434&connect_timeout=3&sslmode=require"

    assert psql.psql_environment({"PATH": "/bin", "PGSERVICE": "other"}, url) == {
        "PATH": "/bin",
        "PGHOST": "one,two",
        "PGPORT": "5433,5434",
        "PGUSER": "anna",
        "PGPASSWORD": "s@cret",
        "PGDATABASE": "shop",
        "PGCONNECT_TIMEOUT": "3",
        "PGSSLMODE": "require",
        "PGTARGETSESSIONATTRS": "read-write",
    }


def test_without_any_psql_the_message_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psql, "succeeds", lambda _: False)
    monkeypatch.setenv("PATH", "")

    with pytest.raises(SystemExit, match="apt install postgresql-client"):
        psql.find_psql()


@pytest.mark.parametrize("lock", ALL_LOCKS)
def test_a_lock_names_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()

    assert not re.findall(r"://|--index|--extra-index|--find-links|file:", text)


@pytest.mark.parametrize("lock", ALL_LOCKS)
def test_every_line_of_a_lock_has_a_hash(lock: str) -> None:
    requirements = re.split(r"\n(?=\S)", (ROOT / lock).read_text().strip())

    assert [name for name in requirements if "--hash=sha256:" not in name] == []


def test_what_runs_is_what_is_checked() -> None:
    service, development = map(pins, LOCKS)

    assert service
    assert {name: development.get(name) for name in service} == service


@pytest.mark.slow
def test_the_bill_of_materials_names_every_pinned_package_with_its_hashes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "tasks", "sbom", tmp_path / "sbom.json"], cwd=ROOT, check=True)

    components = json.loads((tmp_path / "sbom.json").read_text())["components"]
    found = {(one["name"], one["version"]) for one in components}
    assert found == {(name, version.partition(" ")[0]) for name, version in pins("requirements.txt").items()}
    assert all(one["externalReferences"][0]["hashes"] for one in components)
