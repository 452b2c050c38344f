"""`./run bench`: compares the service with PostgreSQL alone and with other implementations.

All run on the same machine in the same run, so that ratios are meaningful. The bench is not part of the tests.
"""
