"""deploy/Dockerfile and compose.yaml with their scripts and SQL.

They are linted and tested without containers: the image's files, its commands, and the environment from compose.
"""

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from psycopg2.errors import InsufficientPrivilege

from config import Config, settings
from project.embedded.data_directory import wheel_programs
from project.server import STOP_S
from tests.chaos import processes
from tests.chaos.processes import eventually
from tests.chaos.service import ROOT
from tests.conftest import drop_roles
from tests.deploy.conftest import Database, execute
from tests.deploy.reverse_proxies import DEPLOY, PAGES

DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
OWN_SERVICES = ("migrate", "one", "two")
Compose = dict[str, Any]


def tool(name: str, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run one of the programs of .venv."""
    command = [Path(sys.executable).with_name(name), *arguments]
    return subprocess.run(command, cwd=DEPLOY, capture_output=True, text=True)


@pytest.fixture(scope="module")
def compose() -> Compose:
    """The configuration as Compose parses it."""
    done = tool("docker-compose", "--file", "compose.yaml", "config", "--format", "json")
    assert done.returncode == 0, done.stderr
    found: Compose = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def deploy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of deploy/ with generated secrets."""
    folder = tmp_path_factory.mktemp("made") / "deploy"
    shutil.copytree(DEPLOY, folder, ignore=shutil.ignore_patterns("secrets"))
    for _ in range(2):  # the second run changes nothing
        subprocess.run([folder / "secrets.sh"], check=True, env={"PATH": os.environ["PATH"]})
    return folder


# --- The image ------------------------------------------------------------------------------------------------------


def test_hadolint_finds_no_problem_in_the_dockerfile() -> None:
    done = tool("hadolint", "--no-color", "Dockerfile")

    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_has_a_pinned_base_an_unprivileged_user_and_a_health_check() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    last_stage = DOCKERFILE.rpartition("\nFROM ")[2]

    assert [re.fullmatch(r"python:3\.\d+-slim-\w+", base) is not None for base in bases] == [True, True]
    assert re.findall(r"^USER (\S+)", last_stage, re.MULTILINE) == ["10001:10001"]
    assert "--require-hashes" in DOCKERFILE
    assert "HEALTHCHECK" in last_stage
    assert "RUN" not in last_stage.split(), "nothing is built in the last stage"


def test_variables_set_in_the_image_are_settings_of_the_service() -> None:
    names = set(re.findall(r"^ +(?:ENV )?([A-Z_]+)=", DOCKERFILE, re.MULTILINE))

    assert names - {"PYTHONDONTWRITEBYTECODE"} == {"HOST", "PORT", "DATA_DIR"}
    assert names - {"PYTHONDONTWRITEBYTECODE"} <= {name.upper() for name in settings()}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A folder with the files that the Dockerfile copies and the .dockerignore allows."""
    rules = [line for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if not line.startswith("#")]
    allowed = [rule[1:] for rule in rules if rule.startswith("!")]
    assert rules[0] == "*"
    hidden = [rule.removeprefix("**/") for rule in rules if rule.startswith("**/")]
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        for source in sources.split():
            assert source in allowed
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, tmp_path / source, ignore=shutil.ignore_patterns(*hidden))
            else:
                shutil.copy(ROOT / source, tmp_path)
    assert not [path for path in tmp_path.rglob("*") if fnmatch.fnmatch(path.name, "*.py[cod]")]
    return tmp_path


def _command(prefix: str) -> list[str]:
    """Return the command of a CMD of the Dockerfile with the tests' Python.

    The CMD of a HEALTHCHECK is indented.
    """
    (found,) = re.findall(rf"^{prefix}CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    return _with_own_python(json.loads(found))


def _with_own_python(command: list[str]) -> list[str]:
    assert command[0] == "python"
    return [sys.executable, *command[1:]]


@pytest.fixture
def served(image: Path, deploy: Path, compose: Compose, postgres_url: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a service that runs from the image's files.

    Its variables are those of compose.
    """
    database = Database(postgres_url, "image").create()
    for name in ("database_url", "migrations_database_url"):
        (deploy / "secrets" / name).chmod(0o600)
        (deploy / "secrets" / name).write_text(database.url)
    given = compose["services"]["migrate"]["environment"]
    environment = {name: text.replace("/run/secrets", str(deploy / "secrets")) for name, text in given.items()}
    environment |= {"PATH": os.environ["PATH"], "HOST": "0.0.0.0", "PORT": str(processes.free_port())}  # noqa: S104
    environment |= {"DATA_DIR": str(tmp_path / "volume"), "PYTHONDONTWRITEBYTECODE": "1", "WORKERS": "1"}
    migrate = _with_own_python(compose["services"]["migrate"]["command"])
    subprocess.run(migrate, cwd=image, env=environment, check=True, timeout=60, capture_output=True)
    service = subprocess.Popen(_command(""), cwd=image, env=environment, stdout=subprocess.DEVNULL)
    yield environment
    service.terminate()
    assert service.wait(30) == 0
    database.drop()


def test_the_image_contains_all_files_to_serve_and_passes_its_health_checks(
    served: dict[str, str], compose: Compose
) -> None:
    checks = [_command(" +"), _with_own_python(compose["services"]["one"]["healthcheck"]["test"][1:])]
    checks = [[part.replace("127.0.0.1:8000", f"127.0.0.1:{served['PORT']}") for part in check] for check in checks]

    for check in checks:
        eventually(lambda check=check: _passes(check, served), 90, "the health check did not pass")  # type: ignore[misc]
    unused_port = served | {"PORT": str(processes.free_port())}
    assert not _passes(_command(" +"), unused_port)


def _passes(check: list[str], environment: dict[str, str]) -> bool:
    return subprocess.run(check, env=environment, capture_output=True).returncode == 0


# --- Compose --------------------------------------------------------------------------------------------------------


def test_every_compose_service_is_read_only_and_unprivileged(compose: Compose) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service.get("user", "root") not in {"root", "0"} or service.get("build"), f"{name} runs as root"
        assert not service.get("privileged"), name


def test_every_image_is_pinned_and_every_long_running_service_has_a_health_check(compose: Compose) -> None:
    third_party = {name: each["image"] for name, each in compose["services"].items() if "build" not in each}
    unwatched = {name for name, each in compose["services"].items() if "test" not in each.get("healthcheck", {})}

    assert all(re.search(r":\d", image) for image in third_party.values()), third_party
    assert unwatched == {"migrate"}


@pytest.mark.parametrize("name", OWN_SERVICES)
def test_the_service_accepts_every_setting_in_compose(
    compose: Compose, deploy: Path, tmp_path: Path, name: str
) -> None:
    given = compose["services"][name]["environment"]
    known = {setting.upper() for setting in settings()}

    assert {key.removesuffix("_FILE") for key in given} <= known
    environment = {key: text.replace("/run/secrets", str(deploy / "secrets")) for key, text in given.items()}
    config = Config.from_environment(environment | {"DATA_DIR": str(tmp_path)})
    assert config.https_only
    assert "localhost" in config.allowed_hosts
    assert config.secret_key == (deploy / "secrets" / "secret_key").read_text().strip()


def test_every_secret_that_a_service_reads_is_mounted_and_generated(compose: Compose, deploy: Path) -> None:
    for name, service in compose["services"].items():
        texts = [*service["environment"].values()]
        texts += [Path(compose["configs"][each["source"]]["file"]).read_text() for each in service.get("configs", [])]
        read = set(re.findall(r"/run/secrets/\w+", " ".join(texts)))
        given = {f"/run/secrets/{secret['source']}" for secret in service.get("secrets", [])}
        assert read == given, name
    assert {Path(secret["file"]).name for secret in compose["secrets"].values()} == {
        path.name for path in (deploy / "secrets").iterdir()
    }
    assert all(path.read_text().strip() for path in (deploy / "secrets").iterdir())
    assert (deploy / "secrets").stat().st_mode & 0o077 == 0


def test_every_mounted_file_exists_and_the_error_pages_are_where_the_proxy_reads_them(compose: Compose) -> None:
    proxy = compose["services"]["haproxy"]
    mounted = {each["target"]: compose["configs"][each["source"]]["file"] for each in proxy["configs"]}

    assert all(Path(file).is_file() for file in mounted.values())
    assert {f"{proxy['environment']['PAGES']}/{page}" for page in PAGES} <= mounted.keys()


def test_addresses_and_ports_in_compose_are_consistent(compose: Compose) -> None:
    services = compose["services"]
    address = {name: each["networks"]["inside"] for name, each in services.items()}
    proxy = services["haproxy"]["environment"]
    (port,) = re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE)

    for instance, variable in (("one", "USERADD_1"), ("two", "USERADD_2")):
        assert proxy[variable] == f"{address[instance]['ipv4_address']}:{port}"
    binds = {int(proxy[name].rpartition(":")[2]) for name in ("BIND_HTTP", "BIND_HTTPS")}
    assert {each["target"] for each in services["haproxy"]["ports"]} == binds
    subnet = compose["networks"]["inside"]["ipam"]["config"][0]["subnet"]
    assert services["one"]["environment"]["TRUSTED_PROXIES"] == subnet
    assert compose["networks"]["inside"]["internal"]


@pytest.mark.parametrize(("secret", "kind"), [("database_url", "app"), ("migrations_database_url", "owner")])
def test_database_urls_name_the_address_and_the_created_roles(
    compose: Compose, tmp_path: Path, secret: str, kind: str
) -> None:
    shutil.copy(DEPLOY / "secrets.sh", tmp_path)
    subprocess.run([tmp_path / "secrets.sh"], check=True, env={"PATH": os.environ["PATH"]})
    url = urlsplit((tmp_path / "secrets" / secret).read_text().strip())
    postgres = compose["services"]["postgres"]

    assert url.hostname == postgres["networks"]["inside"]["ipv4_address"]
    assert (url.username, url.path[1:]) == (f"useradd_{kind}", postgres["environment"]["POSTGRES_DB"])
    assert url.password == (tmp_path / "secrets" / f"{kind}_password").read_text().strip()
    assert f"alter role {url.username} password :'{kind}'" in (DEPLOY / "roles.sh").read_text()


def test_a_new_database_gets_roles_with_restricted_privileges(
    compose: Compose, deploy: Path, postgres_url: str
) -> None:
    """Roles belong to the whole server, so the test renames them."""
    database = Database(postgres_url, "compose").create()
    address, programs = urlsplit(database.url), wheel_programs().resolve()
    names = {f"useradd_{kind}": f"{kind}_{database.name}" for kind in ("app", "owner")}
    targets = {config["source"]: config["target"] for config in compose["services"]["postgres"]["configs"]}
    for script in ("roles.sh", "roles.sql"):
        text = (deploy / script).read_text().replace("/run/secrets", str(deploy / "secrets"))
        text = text.replace(targets["roles"], str(deploy / "roles.sql"))
        for name, unique_name in names.items():
            text = text.replace(name, unique_name)
        (deploy / script).write_text(text)
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": f"{programs.parents[1]}.libs",
        "POSTGRES_USER": str(address.username),
        "POSTGRES_DB": database.name,
        "PGHOST": str(address.hostname),
        "PGPORT": str(address.port),
        "PGPASSWORD": str(address.password),
    }
    done = subprocess.run([deploy / "roles.sh"], env=environment, capture_output=True, text=True)
    password = (deploy / "secrets" / "app_password").read_text().strip()
    app_url = f"postgresql://{names['useradd_app']}:{password}@{address.hostname}:{address.port}/{database.name}"

    try:
        assert (done.returncode, done.stderr) == (0, "")
        assert execute(app_url, "select current_user") == [(names["useradd_app"],)]
        with pytest.raises(InsufficientPrivilege):
            execute(app_url, "create table t ()")
    finally:
        drop_roles(database.url)
        database.drop()


def test_compose_waits_longer_for_a_stop_than_a_stop_takes(compose: Compose) -> None:
    deadline_s: float = settings()["request_deadline_s"]["parse"](settings()["request_deadline_s"]["shown"])

    for name in ("one", "two"):
        assert int(compose["services"][name]["stop_grace_period"].removesuffix("s")) > deadline_s + STOP_S


def test_instances_start_after_the_migrations_and_the_proxy_after_the_instances(compose: Compose) -> None:
    waits = {
        name: {other: dependency["condition"] for other, dependency in each.get("depends_on", {}).items()}
        for name, each in compose["services"].items()
    }

    assert waits["migrate"] == {"postgres": "service_healthy"}
    assert waits["one"] == waits["two"] == {"migrate": "service_completed_successfully"}
    assert waits["haproxy"] == {"one": "service_healthy", "two": "service_healthy"}


# --- Scripts --------------------------------------------------------------------------------------------------------


def test_shellcheck_finds_no_problem_in_the_scripts() -> None:
    done = tool("shellcheck", *sorted(DEPLOY.glob("*.sh")))

    assert (done.returncode, done.stdout) == (0, "")
