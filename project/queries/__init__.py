"""SQL queries. find_* returns one or None, or a list; get_* one or raises; count_* numbers."""
