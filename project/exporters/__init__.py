"""File formats of downloads: from a report and its lines to bytes."""

from project.exporters import csv, text, xlsx

STREAMS = {"txt": text.stream, "csv": csv.stream, "xlsx": xlsx.stream}
"""Generators of files by file extension."""
