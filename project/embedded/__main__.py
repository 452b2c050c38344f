"""The program of the watcher, which is started by path to load only this package."""

import sys
from importlib import import_module
from pathlib import Path

if __name__ == "__main__":
    package = Path(__file__).resolve().parent
    sys.path.append(str(package.parent))  # last, so that modules there shadow no others
    watcher = import_module(f"{package.name}.watcher")
    watcher.main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
