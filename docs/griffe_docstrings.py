"""Griffe extension: what our docstrings say in their own way, as the API reference shows it.

``Example:`` is the section that Griffe calls ``Examples:``, shown as code; ``docs/track.md#the-command`` is a link.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

WAYS = {
    r"(?m)^( *)Example:$": r"\1Examples:",
    r"docs/(\w+)\.md(#[a-z-]+)?": r"[\1](../\1.md\2)",  # pages of the reference lie in a folder of their own
}


class Docstrings(griffe.Extension):
    """Rewrite docstrings before they are parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Take one object's docstring."""
        if obj.docstring:
            for ours, shown in WAYS.items():
                obj.docstring.value = re.sub(ours, shown, obj.docstring.value)
