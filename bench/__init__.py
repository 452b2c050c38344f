"""How fast the service is, as ratios to references measured in the same run: `./run bench`. Never run as a test."""
