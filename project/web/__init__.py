"""What doors share: texts, formats, guards, headers, error pages."""
