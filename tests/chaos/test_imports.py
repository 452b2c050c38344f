"""An import that is killed at any point creates no user twice and loses no row."""

import csv
import random
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

from tests.chaos.postgres import Postgres
from tests.chaos.processes import eventually
from tests.chaos.service import ROOT, environment

ROWS, KILLS, BAD = 1500, 4, 100
"""Rows of the file, number of kills, and distance between rows that are refused."""


def test_an_import_killed_at_random_points_creates_each_user_once(postgres: Postgres, tmp_path: Path) -> None:
    people, passwords, refused = (tmp_path / f"{name}.csv" for name in ("people", "passwords", "refused"))
    lines = [
        f"Killed {n},killed{n},{'12' if n % BAD == 7 else f'+7903{n:07}'},killed{n}@example.org" for n in range(ROWS)
    ]
    people.write_text("\n".join(["name,username,phone,email", *lines]) + "\n")
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "users", "import", str(people)]
    command += ["--errors", str(refused), "--credentials", str(passwords)]
    env = environment(postgres.url(), tmp_path / "data", LC_ALL="C.UTF-8")

    for written in sorted(random.sample(range(1, ROWS - ROWS // BAD), KILLS)):
        with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL) as process:
            eventually(partial(_has_lines, passwords, written), 60, "no credentials are written")
            process.kill()
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)

    refusals = ROWS // BAD
    [total, *parts] = map(int, re.findall(r"(\d+) (?:rows|created|existing|refused)", done.stdout)[-4:])
    assert (done.returncode, total, sum(parts), parts[2]) == (1, ROWS, ROWS, refusals), done.stdout + done.stderr
    with passwords.open(newline="") as file:
        logins = [line[1] for line in list(csv.reader(file))[1:]]
    assert len(logins) == len(set(logins)) == ROWS - refusals
    [(users,)] = postgres.execute("select count(*) from users where username like 'killed%%'", [])
    assert users == ROWS - refusals
    assert _lines(refused) == refusals + 1


def _has_lines(path: Path, number: int) -> bool:
    return _lines(path) > number


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0
