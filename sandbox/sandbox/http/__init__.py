"""A local server that speaks the XKCD and GitHub APIs as far as `tap-oso-example` uses them."""

from sandbox.http.recorded import recorded
from sandbox.http.server import HttpSandbox, Request
from sandbox.http.world import World

__all__ = ["HttpSandbox", "Request", "World", "recorded"]
