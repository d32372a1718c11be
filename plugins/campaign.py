"""`campaign.enter` and `campaign.leave`: start and end journeys of the contact from elsewhere (exactly once)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rules_engine.plugin import Action, Change, Parameter, hookimpl


def enter(primary: Any, params: Mapping[str, Any]) -> tuple[Change, ...]:
    """Starts the campaign for the contact, as its REENTRY and MODE allow. The value is the reason."""
    return (Change("campaign_enter", primary, params.get("reason", "")),)


def leave(primary: Any, params: Mapping[str, Any]) -> tuple[Change, ...]:
    """Ends every instance of the campaign for the contact. The value is the reason."""
    return (Change("campaign_leave", primary, params.get("reason", "")),)


@hookimpl
def register_actions() -> Iterator[Action]:
    campaign = Parameter("campaign", "campaign", required=True, help="The campaign's name.")
    reason = (Parameter("reason", "text", help="Why, for the contact's timeline."),)
    yield Action(
        "campaign.enter",
        "Start a campaign for the contact.",
        campaign,
        reason,
        changes=enter,
        writes=("campaign",),
        example='campaign.enter post_purchase, reason: "paid"',
    )
    yield Action(
        "campaign.leave",
        "Take the contact out of a campaign.",
        campaign,
        reason,
        changes=leave,
        writes=("campaign",),
        example='campaign.leave nurture, reason: "handed to sales"',
    )
