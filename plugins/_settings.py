"""What the first-party message plugins declare alike. Imported with each of them, so it imports next to nothing."""

from __future__ import annotations

from rules_engine.plugin import Parameter

DELIVERY = ("transport", "folder", "fsync", "url", "secret", "token", "timeout", "allow_private", "deduplicates")
"""Settings of what goes to a folder or to a webhook (`_handover.deliver`)."""


def message_class(what: str) -> Parameter:
    """The parameter `class` of an action whose messages are marketing unless the campaign says otherwise. what: the messages."""
    return Parameter(
        "class",
        "choice",
        default="marketing",
        choices=("marketing", "transactional"),
        help=f"Transactional {what} exempt from caps and quiet hours.",
    )
