"""The request pipeline: middleware, hooks, and the state of the current request."""
