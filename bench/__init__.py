"""`./run bench`: measure the service as ratios to references in the same run.

Not part of the tests.
"""
