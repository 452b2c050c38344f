"""File formats of downloads. Exporters turn a report and its lines into bytes."""

from collections.abc import Callable, Iterator
from functools import partial

from project.domain.lines import ReadLines
from project.domain.reports import CountAttempts
from project.exporters import csv, text, xlsx
from project.exporters.translations import Heading, Translations

Stream = Callable[[CountAttempts, ReadLines, Heading, Translations], Iterator[bytes]]
STREAMS: dict[str, Stream] = {"txt": text.stream, "csv": csv.stream, "xlsx": xlsx.stream}
"""File extension -> function that yields a file in blocks of bytes."""
RAW_STREAMS: dict[str, Stream] = {"csv": partial(csv.stream, raw=True)}
"""The same as STREAMS, for programs: values that look like formulas are not escaped."""
