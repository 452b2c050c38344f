"""Code shared by pages, files and commands: selection of attempts, formats, headings."""
