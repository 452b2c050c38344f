"""`./run bench`: measure the service as ratios to references in the same run.

It is not part of the tests.
"""
