"""Loading the same Singer file with this project's target, z3-target-bigquery and dlt."""
