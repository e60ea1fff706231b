"""Singer target for BigQuery: state never ahead of data, types, order and deletes kept."""
