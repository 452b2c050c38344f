"""File formats of downloads. Exporters turn a report and its lines into bytes."""

from project.exporters import csv, text, xlsx

STREAMS = {"txt": text.stream, "csv": csv.stream, "xlsx": xlsx.stream}
"""Generator function of each file extension; yields the file in blocks."""
