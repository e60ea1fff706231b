"""Singer tap for PostgreSQL change data capture."""
