"""Developer tasks, which `./run` starts inside the environment that it has prepared. The service does not need them."""
