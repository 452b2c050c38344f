"""Programs that tests need beyond requirements-dev.txt.

Finds, announces and installs them. With `SYSTEM_PACKAGES=0` nothing is installed, but programs that are already there
are used.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from tasks import judges
from tasks.processes import log, succeeds, succeeds_or_explains

ADMIN_DIRECTORIES = "/usr/sbin:/usr/local/sbin"  # not on the PATH of every user
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
INSTALL_JUDGES = (sys.executable, "-m", "tasks.judges", "install")
PLAYWRIGHT = (sys.executable, "-m", "playwright")
PRINT_PLAYWRIGHT_CHROMIUM = """
from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    print(playwright.chromium.executable_path)
"""


class SystemPackage(NamedTuple):
    """A Debian package, and a function that returns the path of its program.

    The function returns None if the program is missing or does not work. A package with a command of its own is not
    from Debian.
    """

    name: str
    find: Callable[[], str | None]
    command: tuple[str, ...] = ()
    """Command that installs it, without root and on every system."""


class Requirement(NamedTuple):
    """The packages that the tests with a mark need."""

    mark: str
    covers: str
    packages: tuple[SystemPackage, ...]
    alternative: tuple[str, ...] = ()
    """Command that installs them without root, or on a system other than Debian."""

    def missing(self) -> list[SystemPackage]:
        """Return the packages that are not installed."""
        return [package for package in self.packages if package.find() is None]


def provide(requirements: Sequence[Requirement]) -> list[Requirement]:
    """Announce and install missing packages; return the requirements that are still not met.

    In CI, exits if a requirement is not met, unless SYSTEM_PACKAGES=0 shows that this is intended.
    """
    installs = may_install()
    missing = {requirement: packages for requirement in requirements if (packages := requirement.missing())}
    for requirement, packages in missing.items():
        log(planned_message(requirement, packages) if installs else not_tested_message(requirement, packages))
    if not installs:
        return list(missing)
    if missing:
        log("== SYSTEM_PACKAGES=0 ./run test installs nothing and skips these tests")
    return [requirement for requirement in missing if not install(requirement)]


def may_install() -> bool:
    """Return whether SYSTEM_PACKAGES permits installing; exit if it is neither 0 nor 1."""
    value = os.environ.get("SYSTEM_PACKAGES") or "1"
    if value not in {"0", "1"}:
        sys.exit(f"run: SYSTEM_PACKAGES is {value!r}, but must be 0 (install nothing) or 1 (the default)")
    return value == "1"


def install(requirement: Requirement) -> bool:
    """Try each way to install the missing packages; return whether one worked.

    In CI, exits if none did.
    """
    for steps in installation_methods(requirement, requirement.missing()):
        log(f"== installing for the tests marked {requirement.mark}: {' '.join(steps[-1])}")
        if all(succeeds_or_explains(step) for step in steps) and not requirement.missing():
            return True
    log(not_tested_message(requirement))
    if os.environ.get("CI"):
        sys.exit("run: under CI this is a failure, unless SYSTEM_PACKAGES=0 is set")
    return False


def installation_methods(
    requirement: Requirement, packages: Sequence[SystemPackage]
) -> Iterator[tuple[tuple[str, ...], ...]]:
    """Yield the ways to install these packages here, each as a series of commands."""
    debian = [package.name for package in packages if not package.command]
    own = tuple(package.command for package in packages if package.command)
    if not debian:
        yield own
    elif os.geteuid() == 0 and shutil.which("apt-get"):
        yield *own, ("apt-get", "update"), ("apt-get", "install", "-y", "--no-install-recommends", *debian)
    if debian and requirement.alternative:
        yield *own, requirement.alternative


def planned_message(requirement: Requirement, packages: Sequence[SystemPackage]) -> str:
    """Describe what will be installed, how, and for which tests."""
    command = next((" ".join(steps[-1]) for steps in installation_methods(requirement, packages)), None)
    how = f"will be installed: {command}" if command else "cannot be installed without root and apt-get"
    return f"== Missing for the tests marked {requirement.mark} ({requirement.covers}): {names(packages)}; {how}"


def not_tested_message(requirement: Requirement, packages: Sequence[SystemPackage] | None = None) -> str:
    """Describe what is skipped and why."""
    return (
        f"WARNING: NOT TESTED: {requirement.covers} (the tests marked {requirement.mark}), "
        f"because these packages are missing: {names(requirement.missing() if packages is None else packages)}"
    )


def names(packages: Sequence[SystemPackage]) -> str:
    """Return the names of packages as text."""
    return ", ".join(package.name for package in packages)


def find_chromium() -> str | None:
    """Return the path of a Chromium that starts: on the PATH, else Playwright's."""
    for path in filter(None, map(shutil.which, CHROMIUM_NAMES)):
        if succeeds([path, "--version"]):
            return path
    command = [sys.executable, "-c", PRINT_PLAYWRIGHT_CHROMIUM]
    path = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return path if path and succeeds([path, "--version"]) else None


def find_playwright_driver() -> str | None:
    """Return the Python of Playwright if its driver starts.

    The driver needs libatomic1, which a minimal Debian lacks.
    """
    return PLAYWRIGHT[0] if succeeds([*PLAYWRIGHT, "--version"]) else None


def program(name: str, package: str | None = None) -> SystemPackage:
    """Return the package of a program, by default one with the same name."""
    path = f"{os.environ.get('PATH', os.defpath)}:{ADMIN_DIRECTORIES}"
    return SystemPackage(package or name, lambda: shutil.which(name, path=path))


REQUIREMENTS = (
    Requirement(
        "browser",
        "pages in a real browser, with scripts, at several sizes, and their accessibility",
        (SystemPackage("chromium", find_chromium), SystemPackage("libatomic1", find_playwright_driver)),
        (*PLAYWRIGHT, "install", "chromium"),
    ),
    Requirement(
        "deploy",
        "proxies, container image, systemd units, monitoring, backup and upgrade without downtime",
        (
            program("nginx"),
            program("haproxy"),
            program("openssl"),
            program("pgbouncer"),
            program("promtool", "prometheus"),
        ),
    ),
    Requirement(
        "judges",
        "API document, generated API clients and pages before linters and compilers of others, "
        "the workbook in JavaScript libraries",
        (SystemPackage("Node.js, Java and npm packages", judges.find, INSTALL_JUDGES),),
    ),
    Requirement(
        "spreadsheets",
        "the workbook in LibreOffice and Gnumeric",
        (program("soffice", "libreoffice-calc"), program("ssconvert", "gnumeric")),
    ),
)
