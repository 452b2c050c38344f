"""Code that pages, exports and commands share: selection of attempts, formats, headings."""
