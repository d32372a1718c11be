"""The two registration hooks of a plugin. Executing an action is a call by name to one provider, never a broadcast."""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from rules_engine.actions import Action, EventType

PROJECT_NAME = "camp"
hookspec = pluggy.HookspecMarker(PROJECT_NAME)
hookimpl = pluggy.HookimplMarker(PROJECT_NAME)


@hookspec
def register_actions() -> Iterable[Action]:
    """The actions that this plugin provides."""
    return ()


@hookspec
def register_events() -> Iterable[EventType]:
    """The events that this plugin's actions or sources bring in."""
    return ()
