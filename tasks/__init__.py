"""Developer tasks, which `./run` starts inside the environment it has prepared.

The service does not need them.
"""
