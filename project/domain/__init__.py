"""Rules and value types: plain Python without framework, database or clock."""
