"""Developer tasks, which `./run` starts in the environment that it has prepared.

The service does not need them.
"""
