"""Print the installed packages of the running Python as a software bill of materials in CycloneDX, for the image."""

import json
import platform
import sys
from importlib.metadata import Distribution, distributions


def main() -> None:
    """Write the bill of materials to standard output."""
    packages = sorted(distributions(), key=lambda package: package.name.lower())
    python = {"type": "platform", "name": "CPython", "version": platform.python_version()}
    json.dump(
        {
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "version": 1,
            "components": [python, *map(_component, packages)],
        },
        sys.stdout,
        indent=1,
    )


def _component(package: Distribution) -> dict[str, object]:
    name = package.name.lower().replace("_", "-").replace(".", "-")
    found: dict[str, object] = {"type": "library", "name": package.name, "version": package.version}
    found["purl"] = f"pkg:pypi/{name}@{package.version}"
    license_text = package.metadata.get("License-Expression") or package.metadata.get("License") or ""
    if license_text and "\n" not in license_text:
        found["licenses"] = [{"license": {"name": license_text}}]
    return found


if __name__ == "__main__":
    main()
