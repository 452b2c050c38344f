"""A wall clock of the service that jumps; PostgreSQL's and the monotonic clock do not."""

from pathlib import Path


class FaultyClock:
    """The wall clock of a service, patched in Python: Linux has no namespace for this clock."""

    def __init__(self, folder: Path) -> None:
        """Write the patch to `folder`, which must be in the PYTHONPATH of the service."""
        folder.mkdir(exist_ok=True)
        self._offset_s = folder / "offset_s"
        with (folder / "sitecustomize.py").open("a") as program:
            program.write(_FAULTY_CLOCK.format(str(self._offset_s)))

    def jump(self, offset_s: float) -> None:
        """Set the clock to the real time plus `offset_s` seconds."""
        self._offset_s.write_text(str(offset_s))


_FAULTY_CLOCK = """
import datetime
import time

_datetime, _time, _time_ns = datetime.datetime, time.time, time.time_ns

def offset_s():
    try:
        with open({0!r}) as file:
            return float(file.read() or 0)
    except FileNotFoundError:
        return 0.0

class _Kind(type):
    def __instancecheck__(cls, value):
        return isinstance(value, _datetime)

class Jumping(_datetime, metaclass=_Kind):
    @classmethod
    def now(cls, tz=None):
        return _datetime.now(tz) + datetime.timedelta(seconds=offset_s())

datetime.datetime = Jumping
time.time, time.time_ns = lambda: _time() + offset_s(), lambda: _time_ns() + int(offset_s() * 1e9)
"""
