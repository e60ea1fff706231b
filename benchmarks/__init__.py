"""Measurements beside other projects, with their results."""
