"""Questions to the database. find_: one or None; get_: one or raises; count_: numbers; iter_: a stream."""
