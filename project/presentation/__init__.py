"""What pages, files and commands share: the reader's selection, formats of numbers and times, headings."""
