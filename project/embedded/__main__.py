"""Program of the watcher, run by its path so that it loads this package only."""

import sys
from importlib import import_module
from pathlib import Path

if __name__ == "__main__":
    package = Path(__file__).resolve().parent
    sys.path.append(str(package.parent))  # last: the other modules there must not shadow any
    watcher = import_module(f"{package.name}.watcher")
    watcher.main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
