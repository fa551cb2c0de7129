"""The one error that a user is meant to see."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input: one message that says what is wrong, the rule, what was found and how to fix it.

    The command line prints it without a traceback and exits with code 2.
    """

    def __init__(self, what: str, *, rule: str | None = None, found: object = None, fix: str | None = None) -> None:
        """Compose the message from its parts.

        Args:
            what: what is wrong, starting in lower case.
            rule: what must hold.
            found: what was found instead.
            fix: what the user can do.
        """
        parts = [what, rule and f"rule: {rule}", found is not None and f"found: {found}", fix and f"fix: {fix}"]
        super().__init__("\n  ".join(str(part) for part in parts if part))
        self.what, self.rule, self.found, self.fix = what, rule, found, fix

    @property
    def line(self) -> str:
        """What is wrong, what was found and how to fix it, in a line."""
        found = f" ({self.found})" if self.found else ""
        return f"{self.what}{found}{f'; {self.fix}' if self.fix else ''}"


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """Return a question that names what is spelt most nearly like a name; None if nothing is near.

    Example:
        >>> did_you_mean("doc10", ["docs10", "docs40"])
        "did you mean 'docs10'?"
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else None
