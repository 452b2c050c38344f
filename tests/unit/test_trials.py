"""Commands, tally and tables of `./run containers`, `./run units` and `./run versions`."""

import re
from pathlib import Path

import pytest

from tasks import containers, docker, guide, units, versions
from tasks.steps import Step, Trial
from tests.chaos.load import Answer, Client

USERS = {"u1"}
ATTEMPTS = {"a1", "a2"}


def answer(status: int | None, seconds: float = 0.1, **body: object) -> Answer:
    """Return an answer with this body."""
    return Answer(status, body, seconds, {}, "key", {})


CREATED = answer(201, attempt_id="a1", user={"id": "u1"})
REFUSED = answer(503, attempt_id="a2", seconds=2.5)


def test_a_block_of_the_document_is_found_by_its_text_and_completed() -> None:
    commands = guide.find_block("deploy/backup-containers.sh", {"/var/backups/useradd": "/elsewhere"})

    assert commands == "deploy/backup-containers.sh /elsewhere\n"


def test_a_text_in_several_blocks_or_none_is_refused() -> None:
    for text, count in (("no such command", 0), ("as_useradd doctor", 3)):
        with pytest.raises(LookupError, match=f"^{count} blocks"):
            guide.find_block(text)


def test_a_placeholder_that_the_document_no_longer_has_is_refused() -> None:
    with pytest.raises(LookupError, match="does not contain 'REPOSITORY'"):
        guide.find_block("deploy/backup-containers.sh", {"REPOSITORY": "/repository"})


@pytest.mark.parametrize("module", [containers, units])
def test_every_block_that_a_task_follows_is_in_the_document(module: object) -> None:
    source = Path(str(vars(module)["__file__"])).read_text()
    calls = re.findall(r'guide\.find_block\((?:"([^"]+)"|INSTALLATION)(?:, \{"([^"]+)")?', source)

    assert len(calls) >= 5
    for text, placeholder in calls:
        guide.find_block(text or containers.INSTALLATION, {placeholder: placeholder} if placeholder else {})


def test_the_restore_with_units_works_in_any_directory() -> None:
    files = re.findall(r"\S*deploy/\S+", guide.find_block("deploy/restore.sh"))

    assert len(files) == 2
    assert all(file.startswith("/opt/useradd/") for file in files)


def test_the_document_installs_packages_before_its_commands() -> None:
    assert {"postgresql", "python3-venv", "git"} <= set(guide.find_packages())


def test_a_failed_command_ends_the_task_with_its_output() -> None:
    with pytest.raises(SystemExit, match=r"(?s)false \| true.*reason"):
        guide.run_commands("echo reason >&2\nfalse | true")


def test_commands_get_the_answers_to_their_questions() -> None:
    assert guide.run_commands('read -r login; echo "$login"', "boss\n") == "boss\n"


@pytest.mark.parametrize(
    "lost",
    [
        answer(None),
        answer(201, attempt_id="a1", user={"id": "u9"}),
        answer(201, attempt_id="a9", user={"id": "u1"}),
        answer(503, attempt_id="a9"),
    ],
)
def test_a_request_is_lost_without_a_response_or_if_the_database_lacks_what_it_promised(lost: Answer) -> None:
    assert Step("restart", [CREATED, lost, REFUSED]).count_lost(USERS, ATTEMPTS) == 1


@pytest.mark.parametrize("kept", [CREATED, REFUSED, answer(503), answer(503, attempt_id="a9", recorded=False)])
def test_a_request_is_not_lost_if_it_was_answered_and_what_was_promised_is_there(kept: Answer) -> None:
    assert Step("restart", [kept]).count_lost(USERS, ATTEMPTS) == 0


def test_the_tally_has_a_row_for_every_step() -> None:
    trial = Trial(units.Service(), Client, [Step("restart", [CREATED, REFUSED]), Step("kill", [answer(None, 3.0)])])

    table, lost = trial.tally(USERS, ATTEMPTS)

    assert table.splitlines()[2:] == ["| restart | 2 | 0 | 1 | 2.50 s |", "| kill | 1 | 1 | 0 | 3.00 s |"]
    assert lost == 1


def test_every_base_image_has_a_substitute(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {image.partition(":")[0] for image in containers.base_images()}

    assert kinds == {"python", "postgres", "haproxy"}
    assert all(image.startswith(f"FROM {docker.DEBIAN}\n") for image in (docker.POSTGRES_IMAGE, docker.HAPROXY_IMAGE))


@pytest.mark.parametrize(
    ("summary", "failed"),
    [
        ("12 passed, 1 skipped in 3.0s", False),
        ("not found", False),
        ("1 failed, 11 passed in 3s", True),
        ("11 passed, 1 error in 3s", True),
        ("", True),
    ],
)
def test_only_a_version_whose_tests_all_passed_or_that_is_missing_is_no_failure(summary: str, failed: bool) -> None:
    assert versions.Result("Python 3.11", "tests", summary).has_failed is failed


def test_the_table_of_versions_is_markdown() -> None:
    results = [versions.Result("Python 3.11", "tests", "3 passed")]

    assert versions.markdown_table(results).splitlines()[-1] == "| Python 3.11 | tests | 3 passed |"
