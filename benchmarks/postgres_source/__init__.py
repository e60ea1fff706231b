"""Reading a PostgreSQL database."""
