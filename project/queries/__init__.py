"""SQL queries. find_* may find nothing (None or an empty list), get_* raises then."""
