"""Subcommands that look at a database, prepare it, watch it and leave it."""
