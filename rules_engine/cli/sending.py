"""What the settings must be before anything is handed over: `camp doctor` tells it, and `camp run` does not start where messages couldn't leave,
or would leave without what they must have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from rules_engine import host as hosts
from rules_engine.cli import errors
from rules_engine.cli.settings import Settings

LINKING = ("email", "sms")  # plugins whose messages have links that lead to us


class Fault(NamedTuple):
    """One thing that can't be, in a sentence, and the way out. fatal: no message of this plugin would leave as it must, and campaigns send
    some."""

    plugin: str
    message: str
    help: str
    fatal: bool


def tables_of(host: Any, settings: Settings) -> dict[str, dict[str, Any]]:
    """Each plugin's own table, and what it needs to sign links. Trouble for a setting of [web] that can't be."""
    from rules_engine.cli.web import signed_links

    tables = settings.tables(sorted({*host.plugins, *host.providers.values()}))
    links = signed_links(settings)
    for name in LINKING:
        if links is not None and name in tables:
            tables[name]["links"] = links
    return tables


def check(loaded: Any, settings: Settings, tables: Mapping[str, dict[str, Any]], dispatch: bool) -> None:
    """Trouble where a plugin that campaigns use can't work with its table; the rest is logged. A rate that can't be read is taken out of
    `tables`, where it belongs to a plugin that nothing uses. dispatch: whether anything is to be handed over."""
    import logging

    from rules_engine.service.logs import about

    for fault in faults(loaded, settings, tables):
        if fault.fatal and dispatch:
            raise errors.Trouble(fault.message, fault.help)
        logging.getLogger("camp.settings").warning("%s; %s", fault.message, fault.help, extra=about(what="settings", plugin=fault.plugin))
        if _rate(fault.plugin, tables[fault.plugin]):
            del tables[fault.plugin]["throttle"]


def faults(loaded: Any, settings: Settings, tables: Mapping[str, Mapping[str, Any]]) -> Iterator[Fault]:
    """All that is wrong with the plugins' tables."""
    used = uses(loaded)
    for name, table in tables.items():
        calls = used.get(name, [])
        rate = _rate(name, table)
        if rate:
            yield Fault(name, rate, f"it stands in camp.toml, or in the environment as CAMP_{name.upper()}_THROTTLE", bool(calls))
        for said in _wrong(loaded.host, name, table, calls):
            yield Fault(name, f"{name}: {said}", f"look at [{name}] in camp.toml", bool(calls))
    yield from _unsubscribing(settings, tables.get("email", {}), used.get("email", []))


def uses(loaded: Any) -> dict[str, list[Any]]:
    """The actions that the campaigns' texts do, by plugin."""
    from rules_engine.syntax import nodes

    found: dict[str, list[Any]] = {}
    for node in (node for file in loaded.files for node in nodes.walk(file) if isinstance(node, nodes.Then)):
        found.setdefault(loaded.host.providers.get(node.action.name, ""), []).append(node.action)
    return found


def module_of(host: Any, plugin: str) -> Any:
    """The module of a plugin's external actions, or what speaks for it; None where it has none."""
    action = _external(host, plugin)
    return None if action is None else hosts.module_of(action)


def _external(host: Any, plugin: str) -> Any:
    """One of a plugin's actions that hand something over."""
    return next((action for name, action in host.actions.items() if action.perform and host.providers[name] == plugin), None)


def _wrong(host: Any, plugin: str, table: Mapping[str, Any], calls: list[Any]) -> Iterator[str]:
    """What the plugin says of its table. What each of its calls gives is no setting that could be missing."""
    action = _external(host, plugin)
    if action is None or not (calls or table):
        return
    given = set.intersection(*({key for key, _ in call.arguments} for call in calls)) if calls else set()
    said = hosts.wrong_settings(action, table, frozenset(given))
    known, transport = getattr(hosts.module_of(action), "TRANSPORTS", ()), table.get("transport")
    if not said and known and transport is not None and transport not in known:
        said = [f"transport = {transport!r} is unknown; known are {', '.join(known)}"]
    yield from said


def _rate(plugin: str, table: Mapping[str, Any]) -> str:
    from rules_engine.service import throttle

    try:
        throttle.of_settings({plugin: table})
    except ValueError as error:
        return str(error)
    return ""


def _unsubscribing(settings: Settings, table: Mapping[str, Any], calls: list[Any]) -> Iterator[Fault]:
    """Marketing mail that leaves for good needs a way to be unsubscribed from (List-Unsubscribe)."""
    if table.get("transport") != "smtp" or table.get("unsubscribe_url") or table.get("links") or not any(map(_markets, calls)):
        return
    if settings.get("web.url").value:
        said = "CAMP_WEB_SECRET is not set, so marketing mail would leave without List-Unsubscribe, although [web] url is there for it"
        yield Fault("email", said, "openssl rand -hex 24 makes one; or set [email] unsubscribe_url", True)
    else:
        said = "marketing mail leaves without List-Unsubscribe"
        yield Fault("email", said, "set [web] url and CAMP_WEB_SECRET, or [email] unsubscribe_url", False)


def _markets(call: Any) -> bool:
    kind = dict(call.arguments).get("class")
    return call.name == "email.send" and getattr(kind, "value", getattr(kind, "name", None)) != "transactional"
