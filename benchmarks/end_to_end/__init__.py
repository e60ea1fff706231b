"""From PostgreSQL to BigQuery: this project, MeltanoLabs' tap with z3's target, and dlt."""
