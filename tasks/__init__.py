"""Developer tasks, which `./run` starts. The service does not need this package."""
