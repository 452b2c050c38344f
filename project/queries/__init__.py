"""SQL queries. find_* returns None or an empty list if nothing is found, get_* raises."""
