"""Writes the table of events into its page; run in the project's folder."""

from sandbox.events.page import PAGE, filled

PAGE.write_text(filled(PAGE.read_text()))
