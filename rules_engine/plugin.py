"""The public seam for action plugins. A plugin imports this module and nothing else of Camp.

    from rules_engine.plugin import Action, Call, Outcome, Parameter, hookimpl

    def send(call: Call) -> Outcome:
        ...
        return Outcome("accepted", provider_id="42")

    @hookimpl
    def register_actions():
        yield Action("pager.send", "Page somebody.", primary=Parameter("text", "text", required=True), perform=send)

and names its module under the entry-point group `camp.plugins`.
"""

from rules_engine.actions import API_VERSION, Action, Attribute, Call, Change, EventType, Outcome, Parameter
from rules_engine.hookspecs import hookimpl

__all__ = ["API_VERSION", "Action", "Attribute", "Call", "Change", "EventType", "Outcome", "Parameter", "hookimpl"]
