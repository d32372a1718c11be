"""`camp plugin`: what the installed plugins bring, and why one is missing."""

from __future__ import annotations

from typing import Any

import click

from rules_engine.cli import errors, output
from rules_engine.cli.errors import usage
from rules_engine.cli.group import Group
from rules_engine.cli.settings import Settings


@click.group("plugin", cls=Group)
def plugin_command() -> None:
    """Actions and events that plugins bring."""


@plugin_command.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each plugin.")
def plugin_list(as_json: bool) -> int:
    """List the plugins with their actions and events, and those that can't be used."""
    host = _host()
    records = _records(host)
    if as_json:
        output.json_lines(records)
    else:
        rows = [
            (item["plugin"], ", ".join(item["actions"]) or None, ", ".join(item["events"]) or None)
            for item in records
            if not item["problems"]
        ]
        output.table(("plugin", "actions", "events"), rows)
        for item in records:
            for problem in item["problems"]:
                output.warn(f"plugin {item['plugin']}: {problem}")
    return errors.ENVIRONMENT if host.problems else errors.OK


def _host() -> Any:
    from rules_engine import host

    return host.load(Settings().project)


def _records(host: Any) -> list[dict[str, Any]]:
    names = sorted({*host.providers.values(), *(problem.plugin for problem in host.problems)})
    return [
        {
            "plugin": name,
            "actions": sorted(item for item in host.actions if host.providers[item] == name),
            "events": sorted(item for item in host.events if host.providers[item] == name),
            "problems": [problem.reason for problem in host.problems if problem.plugin == name],
        }
        for name in names
    ]


@plugin_command.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def plugin_show(name: str, as_json: bool) -> None:
    """Show a plugin, an action or an event: NAME is `email`, `email.send` or `email.opened`."""
    host = _host()
    shown = [item for item in (*sorted(host.actions), *sorted(host.events)) if item == name or host.providers[item] == name]
    problems = [problem for problem in host.problems if problem.plugin == name]
    if not shown and not problems:
        from difflib import get_close_matches

        near = get_close_matches(name, [*host.providers, *host.providers.values()], n=1)
        raise usage(
            f"there is no plugin, action or event `{name}`",
            f"did you mean `{near[0]}`?" if near else "`camp plugin list` shows them",
        )
    if as_json:
        output.json_document(
            {
                "name": name,
                "actions": [_action_record(host.actions[item]) for item in shown if item in host.actions],
                "events": [_event_record(host.events[item]) for item in shown if item in host.events],
                "problems": [problem.reason for problem in problems],
            }
        )
        return
    for position, item in enumerate(shown):
        if position:
            output.data()
        if item in host.actions:
            _show_action(host.actions[item], host.providers[item])
        else:
            _show_event(host.events[item], host.providers[item])
    for problem in problems:
        output.warn(f"plugin {problem.plugin}: {problem.reason}")


def _show_action(action: Any, plugin: str) -> None:
    output.data(click.style(f"action {action.name}", bold=True) + f"  (plugin {plugin})")
    output.data(f"  {action.summary}")
    for parameter in ((action.primary,) if action.primary is not None else ()) + action.parameters:
        needed = (
            "needed"
            if parameter.required
            else f"default {output.cell(parameter.default)}"
            if parameter.default is not None
            else "may be left out"
        )
        name = f"({parameter.name})" if parameter is action.primary else f"{parameter.name}:"
        kind = " | ".join(parameter.choices) if parameter.choices else parameter.kind
        output.data(f"    {name:18}{kind:28}{needed}{'. ' + parameter.help if parameter.help else ''}")
    if action.extra:
        output.data(f"    further arguments: {EXTRAS.get(action.extra, action.extra)}")
    output.data(
        f"  {'message by ' + action.channel + ', ' + action.message_class if action.channel else action.message_class}; "
        + ("changes the contact inside Camp, exactly once" if action.perform is None else "leaves through the outbox")
    )
    if action.example:
        output.data(f"  example: THEN {action.example}")


EXTRAS = {
    "template": "the values of the template's placeholders",
    "attribute": "attributes of the contact",
    "event": "fields of the event",
    "any": "anything",
}


def _show_event(event: Any, plugin: str) -> None:
    output.data(click.style(f"event {event.name}", bold=True) + f"  (plugin {plugin})")
    output.data(f"  {event.summary}")
    if event.subject:
        output.data(f"    subject           {event.subject}")
    for name, kind in event.fields.items():
        output.data(f"    {name:18}{kind}")
    for change in event.changes:
        output.data(
            f"  with it: {change.op} {change.name}" + (f" = {output.cell(change.value)}" if change.value is not None else "")
        )


def _action_record(action: Any) -> dict[str, Any]:
    parameters = ((action.primary,) if action.primary is not None else ()) + action.parameters
    return {
        "name": action.name,
        "summary": action.summary,
        "channel": action.channel,
        "class": action.message_class,
        "extra": action.extra,
        "external": action.perform is not None,
        "example": action.example,
        "parameters": [
            {
                "name": item.name,
                "primary": item is action.primary,
                "kind": item.kind,
                "required": item.required,
                "default": item.default,
                "choices": list(item.choices),
                "help": item.help,
            }
            for item in parameters
        ],
    }


def _event_record(event: Any) -> dict[str, Any]:
    return {
        "name": event.name,
        "summary": event.summary,
        "subject": event.subject,
        "fields": dict(event.fields),
        "changes": [{"op": change.op, "name": change.name, "value": change.value} for change in event.changes],
    }
