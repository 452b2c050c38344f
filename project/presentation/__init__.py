"""Shared by pages, files and commands: the selection of attempts, formats of numbers and times, headings."""
