# SPDX-License-Identifier: GPL-2.0-only
"""What a check in a guest prints."""

import json

__all__ = ("say",)


def say(check: str, **facts: object) -> None:
    """Print the result of a check as a line of JSON."""
    print(json.dumps({"check": check, **facts}), flush=True)
