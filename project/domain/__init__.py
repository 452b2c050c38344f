"""Words and rules of the service: plain Python, no framework, no database, no clock but the caller's."""
