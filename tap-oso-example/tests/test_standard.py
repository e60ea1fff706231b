"""The SDK's own tests for taps, one request at a time and sixteen."""

from __future__ import annotations

from singer_sdk.testing import get_tap_test_class

from sandbox.http import HttpSandbox, World
from tap_oso_example.tap import TapOSOExample

# The SDK makes its test classes while this module is imported, and wants the settings then.
SERVER = HttpSandbox(World.generate(comics=30))
SERVER.start()

TestOneAtATime = get_tap_test_class(
    TapOSOExample, config={**SERVER.tap_config, "concurrency": 1}, parse_env_config=False
)
TestSixteenAtATime = get_tap_test_class(
    TapOSOExample, config={**SERVER.tap_config, "concurrency": 16}, parse_env_config=False
)
