"""Finds and installs programs that tests need beyond requirements-dev.txt.

With `SYSTEM_PACKAGES=0` nothing is installed, but programs that are already installed are used.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from tasks import judges
from tasks.processes import log, succeeds, succeeds_or_prints

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

    The function returns None if the program is missing or does not work.
    """

    name: str
    find_program: Callable[[], str | None]
    command: tuple[str, ...] = ()
    """Command that installs the package without root, if the package is not from Debian."""


class Requirement(NamedTuple):
    """The packages that the tests with a mark of pytest need."""

    mark: str
    subject: str
    """The subject of these tests, for messages."""
    packages: tuple[SystemPackage, ...]
    alternative: tuple[str, ...] = ()
    """Command that installs the packages without root, or on a system other than Debian."""

    def missing_packages(self) -> list[SystemPackage]:
        """Return the packages that are not installed."""
        return [package for package in self.packages if package.find_program() is None]


def provide(requirements: Sequence[Requirement]) -> list[Requirement]:
    """Announce and install missing packages; return the requirements that remain unmet.

    With CI=true, exits if a requirement remains unmet, unless SYSTEM_PACKAGES is 0.
    """
    can_install = may_install()
    missing = {requirement: packages for requirement in requirements if (packages := requirement.missing_packages())}
    for requirement, packages in missing.items():
        log(planned_message(requirement, packages) if can_install else not_tested_message(requirement, packages))
    if not can_install:
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

    With CI=true, exits if none worked.
    """
    for steps in installation_methods(requirement, requirement.missing_packages()):
        log(f"== installing for the tests marked {requirement.mark}: {' '.join(steps[-1])}")
        if all(succeeds_or_prints(step) for step in steps) and not requirement.missing_packages():
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
    """Return a message about what will be installed, how, and for which tests."""
    command = next((" ".join(steps[-1]) for steps in installation_methods(requirement, packages)), None)
    how = f"will be installed: {command}" if command else "cannot be installed without root and apt-get"
    return f"== Missing for the tests marked {requirement.mark} ({requirement.subject}): {join_names(packages)}; {how}"


def not_tested_message(requirement: Requirement, packages: Sequence[SystemPackage] | None = None) -> str:
    """Return a warning about the tests that are skipped, with the missing packages."""
    missing = requirement.missing_packages() if packages is None else packages
    return (
        f"WARNING: NOT TESTED: {requirement.subject} (the tests marked {requirement.mark}), "
        f"because these packages are missing: {join_names(missing)}"
    )


def join_names(packages: Sequence[SystemPackage]) -> str:
    """Return the names of packages, separated by commas."""
    return ", ".join(package.name for package in packages)


def find_chromium() -> str | None:
    """Return the path of a Chromium that starts, on the PATH or Playwright's; None without one."""
    for path in filter(None, map(shutil.which, CHROMIUM_NAMES)):
        if succeeds([path, "--version"]):
            return path
    command = [sys.executable, "-c", PRINT_PLAYWRIGHT_CHROMIUM]
    path = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return path if path and succeeds([path, "--version"]) else None


def find_playwright_driver() -> str | None:
    """Return the path of Python if the driver of Playwright starts, otherwise None.

    The driver needs libatomic1, which a minimal Debian lacks.
    """
    return PLAYWRIGHT[0] if succeeds([*PLAYWRIGHT, "--version"]) else None


def package_of(name: str, package: str | None = None) -> SystemPackage:
    """Return the Debian package that contains a program; the default name is the program's."""
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
            package_of("nginx"),
            package_of("haproxy"),
            package_of("openssl"),
            package_of("pgbouncer"),
            package_of("promtool", "prometheus"),
        ),
    ),
    Requirement(
        "judges",
        "API document, generated API clients and pages before linters and compilers of others, "
        "the workbook in JavaScript libraries",
        (SystemPackage("Node.js, Java and npm packages", judges.find_judges, INSTALL_JUDGES),),
    ),
    Requirement(
        "spreadsheets",
        "the workbook in LibreOffice and Gnumeric",
        (package_of("soffice", "libreoffice-calc"), package_of("ssconvert", "gnumeric")),
    ),
)
