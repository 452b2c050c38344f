"""Files that people download: from a report and its rows to bytes."""

from project.exporters import csv, text, xlsx

STREAMS = {"txt": text.stream, "csv": csv.stream, "xlsx": xlsx.stream}
"""The writers, by the ending of the file."""
