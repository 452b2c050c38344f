"""deploy/Dockerfile and compose.yaml with their scripts and SQL.

They are linted and tested without containers: the image's files, its commands, and the environment from compose.
"""

import fnmatch
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cyclonedx.model.bom import Bom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
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
HOST_NAME = "users.example.org"
Compose = dict[str, Any]


def tool(name: str, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run one of the programs of .venv."""
    command = [Path(sys.executable).with_name(name), *arguments]
    return subprocess.run(command, cwd=DEPLOY, capture_output=True, text=True)


def render(**variables: str) -> "subprocess.CompletedProcess[str]":
    """Parse the configuration with Compose, without the .env of this checkout."""
    command: list[str | Path] = [Path(sys.executable).with_name("docker-compose"), "--env-file", "/dev/null"]
    command += ["--file", "compose.yaml", "config", "--format", "json"]
    environment = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run(command, cwd=DEPLOY, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def compose() -> Compose:
    """The configuration as Compose parses it."""
    done = render(USERADD_HOST=HOST_NAME)
    assert done.returncode == 0, done.stderr
    found: Compose = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def deploy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of deploy/ with generated secrets."""
    folder = tmp_path_factory.mktemp("made") / "deploy"
    shutil.copytree(DEPLOY, folder, ignore=shutil.ignore_patterns("secrets"))
    subprocess.run([folder / "secrets.sh"], check=True, env={"PATH": os.environ["PATH"], "USERADD_HOST": HOST_NAME})
    before = {path: path.read_text() for path in (folder / "secrets").iterdir()}
    subprocess.run([folder / "secrets.sh"], check=True, env={"PATH": os.environ["PATH"]})
    assert {path: path.read_text() for path in (folder / "secrets").iterdir()} == before
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
    assert re.findall(r"^RUN (.+)$", last_stage, re.MULTILINE) == [
        "install -d -m 0700 -o 10001 -g 10001 /var/lib/useradd"
    ], "nothing is built in the last stage"


def test_variables_set_in_the_image_are_settings_of_the_service() -> None:
    names = set(re.findall(r"^ +(?:ENV )?([A-Z_]+)=", DOCKERFILE, re.MULTILINE))

    assert names - {"PYTHONDONTWRITEBYTECODE"} == {"HOST", "PORT", "DATA_DIR"}
    assert names - {"PYTHONDONTWRITEBYTECODE"} <= {name.upper() for name in settings()}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A folder with the files that the Dockerfile copies and the .dockerignore allows."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
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
    served: dict[str, str],
) -> None:
    """The check asks with the real host name: it fails where clients are refused."""
    check = _command(" +")
    eventually(lambda: _passes(check, served), 90, "the health check did not pass")

    assert served["TRUSTED_HOSTS"].startswith(f"{HOST_NAME},")
    assert not _passes(check, served | {"PORT": str(processes.free_port())})
    assert not _passes(check, served | {"TRUSTED_HOSTS": "other.example.org"})


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
    unwatched = {name for name in third_party if "test" not in compose["services"][name]["healthcheck"]}
    disabled = {name for name, each in compose["services"].items() if each.get("healthcheck", {}).get("disable")}

    assert all(re.search(r":\d", image) for image in third_party.values()), third_party
    assert (unwatched, disabled) == (set(), {"migrate"}), "others have the health check of the image"


def test_every_compose_service_has_limits(compose: Compose) -> None:
    for name, service in compose["services"].items():
        assert int(service["mem_limit"]) > 0, name
        assert service["pids_limit"] > 0, name


def test_compose_refuses_to_guess_the_host_name() -> None:
    done = render()

    assert done.returncode != 0
    assert "USERADD_HOST" in done.stderr
    assert "run deploy/secrets.sh" in done.stderr


def test_optional_settings_are_read_from_a_file(compose: Compose, deploy: Path) -> None:
    (deploy / "settings.env").write_text("PHONE_REGION=DE\n")
    command = ["docker-compose", "--file", deploy / "compose.yaml", "config", "--format", "json"]
    done = tool(*command)  # type: ignore[arg-type]  # the first is a name
    (deploy / "settings.env").unlink()

    rendered = json.loads(done.stdout)["services"]
    assert [rendered[name]["environment"]["PHONE_REGION"] for name in OWN_SERVICES] == ["DE"] * 3
    assert "PHONE_REGION" not in compose["services"]["one"]["environment"]


def test_a_migration_that_cannot_succeed_is_not_repeated_for_ever(compose: Compose) -> None:
    assert compose["services"]["migrate"]["restart"] == "on-failure:3"


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
    assert config.allowed_hosts[0] == HOST_NAME == compose["services"]["haproxy"]["environment"]["USERADD_HOST"]
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
    binds = {
        int(address.rpartition(":")[2]) for name in ("BIND_HTTP", "BIND_HTTPS") for address in proxy[name].split(",")
    }
    assert {each["target"] for each in services["haproxy"]["ports"]} == binds
    subnet = compose["networks"]["inside"]["ipam"]["config"][0]["subnet"]
    assert services["one"]["environment"]["TRUSTED_PROXIES"] == subnet
    assert compose["networks"]["inside"]["internal"]


@pytest.mark.parametrize(("secret", "kind"), [("database_url", "app"), ("migrations_database_url", "owner")])
def test_database_urls_name_the_address_and_the_created_roles(
    compose: Compose, tmp_path: Path, secret: str, kind: str
) -> None:
    shutil.copy(DEPLOY / "secrets.sh", tmp_path)
    subprocess.run([tmp_path / "secrets.sh"], check=True, env={"PATH": os.environ["PATH"], "USERADD_HOST": HOST_NAME})
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


def test_secrets_need_openssl_and_a_host_name_and_replace_empty_files(tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "secrets.sh", tmp_path)
    (tmp_path / "bin").mkdir()
    for name in ("sh", "dirname", "mkdir", "cat"):
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "app_password").touch()

    without_openssl = make_secrets(tmp_path, PATH=str(tmp_path / "bin"), USERADD_HOST=HOST_NAME)
    without_host = make_secrets(tmp_path, PATH=os.environ["PATH"])
    complete = make_secrets(tmp_path, PATH=os.environ["PATH"], USERADD_HOST=HOST_NAME)

    assert (without_openssl.returncode, without_openssl.stderr) == (
        1,
        "secrets.sh: openssl is missing: apt install openssl\n",
    )
    assert without_host.returncode != 0
    assert "the public host name" in without_host.stderr
    assert (complete.returncode, complete.stderr) == (0, "")
    assert (tmp_path / ".env").read_text() == f"USERADD_HOST={HOST_NAME}\n"
    assert len((tmp_path / "secrets" / "app_password").read_text()) == 65


def make_secrets(folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run secrets.sh in a folder."""
    return subprocess.run([folder / "secrets.sh"], env=environment, capture_output=True, text=True)


def test_the_trial_certificate_names_its_host_where_clients_look(deploy: Path) -> None:
    certificate = deploy / "secrets" / "certificate.pem"
    command: list[str | Path] = ["openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", certificate]

    assert f"DNS:{HOST_NAME}" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_bill_of_materials_is_cyclonedx_and_lists_every_installed_package() -> None:
    done = subprocess.run([sys.executable, DEPLOY / "sbom.py"], capture_output=True, text=True, check=True)
    bom = Bom.from_json(json.loads(done.stdout))  # type: ignore[attr-defined]  # added by a class decorator

    found = {(component.name, component.version) for component in bom.components}
    assert found >= {(each.name, each.version) for each in distributions()}
    assert ("CPython", platform.python_version()) in found
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(done.stdout) is None


@pytest.fixture
def containers(tmp_path: Path, postgres_url: str) -> Iterator[Path]:
    """A folder with a program `docker` that runs commands of the container postgres here."""
    programs, address = wheel_programs().resolve(), urlsplit(postgres_url)
    database = Database(postgres_url, "container").create()
    (tmp_path / "docker").write_text(
        f"#!/bin/sh\nset -eu\n"
        f"export LD_LIBRARY_PATH={programs.parents[1]}.libs PATH={programs}:$PATH PGHOST={address.hostname} "
        f"PGPORT={address.port} PGPASSWORD={address.password}\n"
        'while [ "$1" != postgres ]; do shift; done\nshift\n'
        f'for each; do shift; [ "$each" != useradd ] || each={database.name}; '
        f'[ "$each" != --username=postgres ] || each=--username={address.username}; '
        'set -- "$@" "$each"; done\nexec "$@"\n'
    )
    (tmp_path / "docker").chmod(0o755)
    yield tmp_path
    database.drop()


def back_up_containers(programs: Path, target: Path) -> "subprocess.CompletedProcess[str]":
    """Run backup-containers.sh with the program `docker` in a folder."""
    environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
    return subprocess.run([DEPLOY / "backup-containers.sh", target], env=environment, capture_output=True, text=True)


def test_a_backup_of_containers_is_verified_dated_and_private(containers: Path) -> None:
    target = containers / "backups"
    target.mkdir()
    for name in ("2020-01-01T000000Z.dump", "notes"):
        (target / name).touch()
        os.utime(target / name, (0, 0))

    done = back_up_containers(containers, target)

    backup = Path(done.stdout.strip())
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d{6}Z\.dump", backup.name)
    assert {path.name for path in target.iterdir()} == {backup.name, "notes"}
    assert backup.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("failing", ["pg_dump", "pg_restore"])
def test_a_failed_backup_of_containers_keeps_the_previous_ones_and_leaves_no_file(
    containers: Path, failing: str
) -> None:
    target = containers / "backups"
    target.mkdir()
    (target / "2026-01-01T000000Z.dump").write_text("the last good one")
    script = (containers / "docker").read_text()
    (containers / "docker").write_text(script.replace("exec ", f'[ "$1" != {failing} ] || exit 1\nexec '))

    done = back_up_containers(containers, target)

    assert done.returncode != 0
    assert [path.read_text() for path in target.iterdir()] == ["the last good one"]
