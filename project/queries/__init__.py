"""SQL queries. If nothing is found, find_* returns None or an empty result, get_* raises."""
