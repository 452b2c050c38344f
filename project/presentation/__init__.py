"""Code shared by pages, exports and commands: selection of attempts, formats, headings."""
