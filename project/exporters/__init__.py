"""Files that people download: from a report and its rows to bytes."""
