"""The names of a source, all made from one."""

from __future__ import annotations

import re
from typing import NamedTuple

NAME = re.compile(r"tap-[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST = 40


class Names(NamedTuple):
    """What the parts of a tap are called."""

    tap: str
    """`tap-my-source`: folder, package, command and plugin."""

    @classmethod
    def parse(cls, name: str) -> Names:
        """Return the names of the source that `name` asks for.

        Raises:
            ValueError: It can't be a package, a module and a plugin at once.
        """
        if not NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} can't be the name of a tap: it has to be tap-, a small letter, and then "
                "small letters and digits, perhaps joined by hyphens, such as tap-my-source"
            )
        if len(name) > LONGEST:
            raise ValueError(f"{name!r} is too long: at most {LONGEST} characters")
        return cls(name)

    @property
    def source(self) -> str:
        """`my-source`: the file in `extract/`."""
        return self.tap.removeprefix("tap-")

    @property
    def module(self) -> str:
        """`tap_my_source`, also the namespace of the plugin."""
        return self.tap.replace("-", "_")

    @property
    def tap_class(self) -> str:
        """`TapMySource`."""
        return "".join(word.capitalize() for word in self.tap.split("-"))

    @property
    def stream(self) -> str:
        """`my_source_items`, the one stream that is there to begin with."""
        return f"{self.source.replace('-', '_')}_items"

    @property
    def stream_class(self) -> str:
        """`MySourceItems`."""
        return f"{self.tap_class.removeprefix('Tap')}Items"

    @property
    def label(self) -> str:
        """`My source`, for people."""
        return self.source.replace("-", " ").capitalize()
