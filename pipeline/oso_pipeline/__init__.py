"""Runs the sources of the project every night and says how it went."""
