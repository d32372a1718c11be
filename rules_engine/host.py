"""The plugin host: finds plugins, loads each in isolation, and says what became of it.

`load()` takes the entry points of the group `camp.plugins` one by one, sorted by name, each in its own try. Whatever one
plugin does wrong costs that plugin (or, for one bad record, that record) and becomes a PluginProblem; all the others work on.
A fault in a plugin's code (import, signature, hook name, an exception while it registers) loses the whole plugin: half a plugin
would turn into misleading diagnostics. A fault in one record (invalid, or its name is taken) loses only that record.

Camp's own plugins are loaded into this process. Those of anybody else live in child processes (`rules_engine.isolation`), which load
them with `read_plugin` below; here their records have functions that ask the child. All of them are started before the first is awaited.

Nothing here runs an action; a call goes by name to exactly one provider (see `Host.actions`), never as a broadcast.
"""

from __future__ import annotations

import math
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import pluggy

from rules_engine import hookspecs
from rules_engine.actions import API_VERSION, KINDS, TYPES, Action, Change, EventType, Outcome, Parameter
from rules_engine.limits import MAX_NAME_LENGTH

if TYPE_CHECKING:
    from rules_engine.isolation import Pool

GROUP = "camp.plugins"
OWN = ("camp_rules_engine", "rules_engine_plugins.")  # the distribution and the package of Camp's own plugins
RESERVED = (
    "backup", "camp", "database", "debug", "format", "links", "log", "mailbox", "metrics", "name", "plugins", "postgres", "retention", "spool",
    "templates", "user", "web",
)  # fmt: skip
"""Names of Camp's own settings: a plugin of such a name would be given them, secrets included. (`log` is Camp's own plugin.)"""
MAX_RECORDS = 1_000  # actions and events of one plugin; more is a generator that does not end

EXTRAS = ("", "template", "attribute", "event", "any")
MESSAGE_CLASSES = ("marketing", "transactional", "internal")
IDEMPOTENCIES = ("none", "key", "lookup")
MODULE_FUNCTIONS = ("idempotency", "wrong_settings")  # what a plugin's module may say of its settings
OUTCOMES = ("accepted", "failed", "retry", "unknown")
MAX_DETAIL = 1_000  # characters of an outcome's detail
EVENT_OPS = ("set", "set_if", "add", "segment_add", "segment_remove", "tag_add", "tag_remove")

_WORD = re.compile(r"[a-z][a-z0-9_]*")
_NAME = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")
_PATH = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
_WRITES = re.compile(
    r"contact\.(\{key\}|[a-z][a-z0-9_.]*)|segment\.(\{primary\}|[a-z][a-z0-9_]*)"
    r"|event\.(\{primary\}|[a-z][a-z0-9_.]*)|tag|campaign"
)


@dataclass(frozen=True, slots=True)
class PluginProblem:
    """Why a plugin, or one of its records, is not there. `plugin` is the entry point's name, `reason` one lower-case sentence,
    `names_lost` the names of actions and events that are known to be missing because of it (empty: nobody can tell). extent: what is left
    out: a record | all of the plugin | a namesake (another plugin of its name is there)."""

    plugin: str
    reason: str
    names_lost: tuple[str, ...] = ()
    extent: str = "record"

    def explains(self, name: str) -> bool:
        """Whether `name` may be missing because of it."""
        namespaces = {self.plugin, *(lost.partition(".")[0] for lost in self.names_lost)}
        unknown = self.extent != "record" or not self.names_lost  # what it had still to register, nobody can tell
        return name in self.names_lost or (unknown and name.partition(".")[0] in namespaces)


class PluginInfo(NamedTuple):
    """One plugin that was found. module: what its entry point names; api: the version of the plugin API that it asks for, None where
    it could not be asked; child: whether it runs in processes of its own; seconds: for which loading had to wait for its process."""

    name: str
    module: str
    distribution: str
    version: str
    child: bool
    api: int | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Host:
    """What the installed plugins offer. `providers` maps each action's and event's name to its plugin's entry-point name, `plugins`
    those names to what else is known; `pools` are the processes of those that are not Camp's own."""

    actions: dict[str, Action] = field(default_factory=dict)
    events: dict[str, EventType] = field(default_factory=dict)
    providers: dict[str, str] = field(default_factory=dict)
    problems: tuple[PluginProblem, ...] = ()
    plugins: dict[str, PluginInfo] = field(default_factory=dict)
    pools: dict[str, Pool] = field(default_factory=dict)

    def close(self) -> None:
        """Ends the plugins' processes. They end with Camp anyway; a call after this starts a new one."""
        for pool in self.pools.values():
            pool.close()

    def why_missing(self, name: str) -> PluginProblem | None:
        """The problem that explains why `name` is not there: it was lost by name, or its namespace is a failed plugin's."""
        if name in self.providers:
            return None
        found = [problem for problem in self.problems if problem.explains(name)]
        return next((problem for problem in found if name in problem.names_lost), found[0] if found else None)


class Source(NamedTuple):
    """One entry point: `value` is `module` or `module:attribute`, `dist` the distribution that declares it, normalised."""

    name: str
    value: str
    dist: str = ""
    version: str = ""

    def load(self) -> Any:
        """Imports and returns what the entry point names. Raises whatever the import raises."""
        from importlib import import_module

        module, _, attributes = self.value.partition(":")
        found: Any = import_module(module.strip())
        for attribute in filter(None, attributes.strip().split(".")):
            found = getattr(found, attribute)
        return found


class Item(NamedTuple):
    """One record of a plugin, judged. what: action | event; reason: why it can't be used, or ""; name: its name, or None."""

    what: str
    name: str | None
    reason: str
    record: Any = None


class Fault(Exception):
    """A reason to leave a whole plugin out; the text is the reason, `names` what it had registered before."""

    def __init__(self, reason: str, names: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.names = names


# ---------------------------------------------------------------- loading


def load(
    project_settings: Mapping[str, Any] | None = None, entry_points: Iterable[Any] | None = None, isolate: bool = True
) -> Host:
    """Loads every plugin that is installed and not switched off. Never raises because of a plugin.

    project_settings: the content of camp.toml; `[plugins] disabled = ["name", …]` leaves plugins out without a problem.
    entry_points: objects with `name` and `load()` (and perhaps `value`, `dist`) instead of the installed ones. isolate False: all of
    them in this process, for tests.
    """
    host = Host()
    problems: list[PluginProblem] = []
    manager = new_manager()
    disabled = _disabled(project_settings)
    sources = [source for source in _sorted(installed() if entry_points is None else entry_points) if str(source.name) not in disabled]
    sources = list(_admitted(host, sources, isolate, problems))
    failed = _begin(host, sources)
    for source in sources:
        plugin = str(source.name)
        try:
            if plugin in failed:
                raise Fault(failed[plugin])
            if host.plugins[plugin].child:
                api, items = _ask(host, plugin)
            else:
                api, items = read_plugin(manager, source)
        except Fault as fault:
            problems.append(PluginProblem(plugin, str(fault), fault.names, "plugin"))
            continue
        host.plugins[plugin] = host.plugins[plugin]._replace(api=api)
        for item in items:
            _take(host, plugin, item, problems)
    return Host(host.actions, host.events, host.providers, tuple(problems), host.plugins, host.pools)


def new_manager() -> pluggy.PluginManager:
    """A manager that knows our hooks."""
    manager = pluggy.PluginManager(hookspecs.PROJECT_NAME)
    manager.add_hookspecs(hookspecs)
    return manager


def is_own(source: Any) -> bool:
    """Whether an entry point is one of Camp's own distribution."""
    return _dist(source) == OWN[0] and str(getattr(source, "value", "")).startswith(OWN[1])


def _admitted(host: Host, sources: list[Any], isolate: bool, problems: list[PluginProblem]) -> Iterator[Any]:
    """Those whose name is their own: a plugin gets the settings and secrets of its name, so that no two may share one."""
    for source in sources:
        name, dist, child = str(source.name), _dist(source), isolate and not is_own(source)
        if name in host.plugins:
            other = host.plugins[name]
            reason = f"the name is taken by the plugin of {other.distribution or other.module}, which has the settings of that name"
            said = f"of {dist or 'another distribution'} is left out: {reason}; uninstall one of them"
            problems.append(PluginProblem(name, said, extent="namesake"))
        elif child and name in RESERVED:
            problems.append(PluginProblem(name, f"it can't be called {name!r}: that is one of Camp's own settings", extent="plugin"))
        elif child and not _WORD.fullmatch(name):
            said = f"it can't be called {name!r}: a name has lower-case letters, digits and _, because its settings come as CAMP_NAME_KEY too"
            problems.append(PluginProblem(name, said, extent="plugin"))
        else:
            value, version = str(getattr(source, "value", "")), str(getattr(source, "version", "") or "")
            host.plugins[name] = PluginInfo(name, value, dist, version or _version(source), child)
            yield source


def _version(point: Any) -> str:
    return str(getattr(getattr(point, "dist", None), "version", "") or "")


def _begin(host: Host, sources: list[Any]) -> dict[str, str]:
    """Starts the processes of all that need one. Those that can't be started, with the reason."""
    failed: dict[str, str] = {}
    if not any(plugin.child for plugin in host.plugins.values()):
        return failed
    from rules_engine import isolation

    for source in sources:
        plugin = host.plugins[str(source.name)]
        if not plugin.child:
            continue
        variables = isolation.environment(plugin.name, host.plugins, os.environ)
        pool = host.pools[plugin.name] = isolation.Pool(plugin.name, plugin.module, plugin.distribution, variables)
        try:
            pool.begin()
        except isolation.Failed as failure:
            failed[plugin.name] = str(failure)
    return failed


def _ask(host: Host, plugin: str) -> tuple[int, list[Item]]:
    """What a child has read. Raises Fault."""
    from rules_engine import isolation

    pool, start = host.pools[plugin], time.monotonic()
    try:
        found = pool.declarations()
    except isolation.Failed as failure:
        raise Fault(f"it can't be loaded: {failure}") from None
    finally:
        host.plugins[plugin] = host.plugins[plugin]._replace(seconds=time.monotonic() - start)
    try:
        if "fault" in found:
            raise Fault(str(found["fault"]), tuple(map(str, found["names"])))
        return found["api"], [_remote(pool, item) for item in found["items"]]
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise Fault(f"its declarations can't be read: {_say(error)}") from None


def _remote(pool: Pool, found: Mapping[str, Any]) -> Item:
    """One item of a child, with functions that ask it."""
    from rules_engine import isolation, wire

    item, data = Item(found["what"], found["name"], found["reason"]), found["data"]
    if item.reason or item.what == "event":
        return item if item.reason else _judged("register_events", EventType, wire.event_of(data))
    perform = isolation.HandOver(pool, "perform", data["name"], data["timeout"])
    for verb in MODULE_FUNCTIONS:
        if verb in data["functions"]:
            setattr(perform, verb, isolation.Told(pool, verb, data["name"]))
    perform.TRANSPORTS = tuple(map(str, data["transports"]))
    functions = {
        "perform": perform,
        "lookup": isolation.HandOver(pool, "lookup", data["name"], data["timeout"]),
        "changes": isolation.Changes(pool, data["name"], tuple(data["writes"])),
    }
    return _judged("register_actions", Action, wire.action_of(data, functions))


def module_of(action: Action) -> Any:
    """The module of an external action, which may say more of itself (`TRANSPORTS`, MODULE_FUNCTIONS); for one in a child what speaks for it."""
    return action.perform if hasattr(action.perform, "TRANSPORTS") else sys.modules.get(getattr(action.perform, "__module__", "") or "")


def wrong_settings(action: Action, settings: Mapping[str, Any], given: frozenset[str] = frozenset()) -> list[str]:
    """What the plugin of an external action itself finds wrong with its settings, in sentences. given: the arguments that each action of
    the campaigns gives itself, which Camp's own plugins want to know. Never raises."""
    module = module_of(action)
    ask = getattr(module, "wrong_settings", None)
    more = (given,) if getattr(module, "__name__", "").startswith(OWN[1]) else ()
    try:
        return [str(said) for said in ask(settings, *more)] if callable(ask) else []
    except Exception as error:
        return [f"its wrong_settings(settings) failed: {_say(error)}"]


def _disabled(settings: Mapping[str, Any] | None) -> frozenset[str]:
    table = (settings or {}).get("plugins")
    names = table.get("disabled", ()) if isinstance(table, Mapping) else ()
    return frozenset(name for name in names if isinstance(name, str)) if isinstance(names, (list, tuple, set)) else frozenset()


def _sorted(entry_points: Iterable[Any]) -> list[Any]:
    """Camp's own first, whose names nobody can take; then by name, and by what it points at, so that the order is the same each time."""
    return sorted(entry_points, key=lambda point: (not is_own(point), str(point.name), str(getattr(point, "value", "")), _dist(point)))


def _dist(point: Any) -> str:
    dist = getattr(point, "dist", None)
    name = dist if isinstance(dist, str) else str(getattr(dist, "name", "") or "")
    return re.sub(r"[-_.]+", "_", name).lower()


def read_plugin(manager: pluggy.PluginManager, source: Any) -> tuple[int, list[Item]]:
    """Imports one plugin into this process: the API that it asks for, and its records in the order given. Raises Fault; the manager is
    then as it was before."""
    with _StdoutToStderr():
        try:
            plugin = source.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit too: a plugin must not be able to end Camp by being imported
            raise Fault(f"it can't be imported: {_say(error)}") from error
        api = _check_api(plugin)
        try:
            _hook_in(manager, plugin, source)
            return api, [_judged(*record) for record in _collect(manager, plugin)]
        except Fault:
            _unhook(manager, plugin)
            raise
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            _unhook(manager, plugin)
            raise Fault(f"it can't be registered: {_say(error)}") from error


def _check_api(plugin: Any) -> int:
    wanted = getattr(plugin, "CAMP_API", 1)
    if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 1:
        raise Fault(f"its CAMP_API must be a whole number from 1, not {_short(wanted)}")
    if wanted > API_VERSION:
        raise Fault(
            f"it needs version {wanted} of the plugin API and this Camp has version {API_VERSION}: upgrade Camp, "
            "or install an older version of the plugin"
        )
    return wanted


def _hook_in(manager: pluggy.PluginManager, plugin: Any, source: Any) -> None:
    """Registers with pluggy and refuses what pluggy lets pass: misspelt hooks, wrappers, plugins without any hook."""
    if manager.is_registered(plugin):
        raise _Taken(f"the same module is already loaded as plugin {manager.get_name(plugin)!r}")
    try:
        # The label must be unique inside pluggy; two distributions may use one entry-point name, their records decide then.
        manager.register(plugin, name=f"{source.name} {getattr(source, 'value', '')} {_dist(source)} {id(plugin)}")
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise Fault(_hook_error(str(error))) from error
    callers = manager.get_hookcallers(plugin) or []
    if not callers:
        raise Fault("it registers nothing: " + _forgotten(plugin))
    for caller in callers:
        for implementation in caller.get_hookimpls():
            if implementation.plugin is plugin and (implementation.wrapper or implementation.hookwrapper):
                raise Fault(f"its {caller.name} is a hook wrapper; a plugin may only yield its own records")


class _Taken(Fault):
    """The object belongs to another plugin that works: leave pluggy's registration alone."""


def _unhook(manager: pluggy.PluginManager, plugin: Any) -> None:
    """pluggy <= 1.6 leaves a plugin with a wrong signature registered, which would fail every later check_pending()."""
    if isinstance(sys.exc_info()[1], _Taken):
        return
    try:
        if manager.is_registered(plugin):
            manager.unregister(plugin)
    except Exception:  # half-registered in a way that pluggy itself can't undo: take its traces out by hand
        for name in [name for name, known in manager.list_name_plugin() if known is plugin]:
            manager._name2plugin.pop(name, None)
    # A misspelt hook leaves an empty caller of that name behind; it has no implementation any more and is harmless.


def _hook_error(text: str) -> str:
    """pluggy's message in our words."""
    unknown = re.search(r"unknown hook '?(\w+)'?", text)
    if unknown:
        return f"it implements a hook {unknown[1]!r} that Camp does not have; the hooks are register_actions and register_events"
    hook = re.search(r"hook '(\w+)'", text)
    return f"its {hook[1] if hook else 'hook'} has a wrong signature: the hooks take no arguments"


def _forgotten(plugin: Any) -> str:
    for name in ("register_actions", "register_events"):
        if callable(getattr(plugin, name, None)):
            return f"its {name} lacks the decorator @hookimpl"
    return "it has no function register_actions or register_events with the decorator @hookimpl"


def _collect(manager: pluggy.PluginManager, plugin: Any) -> list[tuple[str, type, Any]]:
    """All records of one plugin: its actions, then its events. Raises Fault with the names seen so far."""
    records: list[tuple[str, type, Any]] = []
    kinds: tuple[tuple[str, type], ...] = (("register_actions", Action), ("register_events", EventType))
    for hook, kind in kinds:
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            if implementation.plugin is not plugin:
                continue
            try:
                for record in implementation.function() or ():
                    records.append((hook, kind, record))
                    if len(records) > MAX_RECORDS:
                        raise Fault(f"its {hook} yields more than {MAX_RECORDS} records")
            except KeyboardInterrupt:
                raise
            except Fault as fault:
                raise Fault(str(fault), _names(records)) from fault
            except BaseException as error:
                raise Fault(f"its {hook} failed: {_say(error)}", _names(records)) from error
    return records


def _names(records: list[tuple[str, type, Any]]) -> tuple[str, ...]:
    names = (getattr(record, "name", None) for _, kind, record in records if isinstance(record, kind))
    return tuple(sorted({name for name in names if isinstance(name, str)}))


def _judged(hook: str, kind: type, record: Any) -> Item:
    """A record with the reason why it can't be used, if there is one."""
    what = "action" if kind is Action else "event"
    if not isinstance(record, (Action, EventType)) or not isinstance(record, kind):
        return Item(what, None, f"its {hook} gives {_short(record)}, which is no {kind.__name__}")
    try:
        reason = check_action(record) if isinstance(record, Action) else check_event(record)
    except Exception as error:  # a record with fields so odd that looking at them fails
        reason = f"it can't be read: {_say(error)}"
    name = record.name if isinstance(record.name, str) else None
    return Item(what, name, f"its {what} {_short(record.name)} is invalid: {reason}" if reason else "", record)


def _take(host: Host, plugin: str, item: Item, problems: list[PluginProblem]) -> None:
    """Puts one record into the host, or a problem into `problems`."""
    lost = (item.name,) if item.name is not None else ()
    if item.reason:
        problems.append(PluginProblem(plugin, item.reason, lost))
    elif item.name in host.providers:
        problems.append(PluginProblem(plugin, _clash(plugin, host.providers[item.name], item.what, item.name), lost))
    else:
        table: dict[str, Any] = host.actions if item.what == "action" else host.events
        table[item.record.name] = item.record
        host.providers[item.record.name] = plugin


def _clash(plugin: str, owner: str, what: str, name: str) -> str:
    if owner == plugin:
        return f"it gives the name {name!r} twice; the first is used"
    return (
        f"its {what} {name!r} is already provided by the plugin {owner!r}, which keeps it; to use the one of {plugin!r}, put "
        f'disabled = ["{owner}"] under [plugins] in camp.toml'
    )


# ---------------------------------------------------------------- what a valid record is


def check_action(action: Action) -> str:
    """Why this record can't be used, or "" if it can."""
    reason = _check_name(action.name) or _check_summary(action.summary) or _check_work(action) or _check_parameters(action)
    if reason:
        return reason
    if action.extra not in EXTRAS:
        return f"extra must be one of {', '.join(EXTRAS[1:])} or empty, not {_short(action.extra)}"
    if action.extra in ("template", "event") and (action.primary is None or action.primary.kind != action.extra):
        return f"extra {action.extra!r} needs a primary of kind {action.extra!r}"
    return _check_message(action) or _check_hand_over(action)


def _check_work(action: Action) -> str:
    if (action.changes is None) == (action.perform is None):
        return f"it must have exactly one of changes and perform, and has {'neither' if action.changes is None else 'both'}"
    if not callable(action.changes if action.perform is None else action.perform):
        return "changes or perform is not a function"
    if not isinstance(action.writes, tuple):
        return "writes must be a tuple"
    if action.perform is not None and action.writes:
        return "an action with perform can't write facts; give it events that do"
    for fact in action.writes:
        if not isinstance(fact, str) or not _WRITES.fullmatch(fact):
            return f"writes names {_short(fact)}, which is no fact"
    return ""


def _check_parameters(action: Action) -> str:
    if not isinstance(action.parameters, tuple):
        return "parameters must be a tuple"
    seen = set()
    for parameter in ((action.primary,) if action.primary is not None else ()) + action.parameters:
        if not isinstance(parameter, Parameter):
            return f"{_short(parameter)} is no Parameter"
        reason = _check_parameter(parameter)
        if reason:
            return f"parameter {_short(parameter.name)}: {reason}"
        if parameter is not action.primary and parameter.name in seen:
            return f"parameter {parameter.name!r} is given twice"
        if parameter is not action.primary:
            seen.add(parameter.name)
    return ""


def _check_parameter(parameter: Parameter) -> str:
    if not isinstance(parameter.name, str) or not _WORD.fullmatch(parameter.name) or len(parameter.name) > MAX_NAME_LENGTH:
        return "a name has lower-case letters, digits and _"
    if parameter.kind not in KINDS:
        return f"kind {_short(parameter.kind)} is unknown; known are {', '.join(KINDS)}"
    choices = parameter.choices
    if not isinstance(choices, tuple) or not all(isinstance(choice, str) and choice for choice in choices):
        return "choices must be a tuple of texts"
    if (parameter.kind == "choice") != bool(choices):
        return "kind choice and a list of choices go together"
    if choices and parameter.default is not None and parameter.default not in choices:
        return f"the default {_short(parameter.default)} is none of its choices"
    return ""


def _check_message(action: Action) -> str:
    if action.message_class not in MESSAGE_CLASSES:
        return f"message_class must be one of {', '.join(MESSAGE_CLASSES)}, not {_short(action.message_class)}"
    if action.message_class != "internal" and not action.channel:
        return f"a {action.message_class} message needs a channel, by which caps and consent know it"
    for label, value in (("channel", action.channel), ("address", action.address)):
        if value is not None and (not isinstance(value, str) or not _PATH.fullmatch(value)):
            return f"{label} must be a name, not {_short(value)}"
    return ""


def _check_hand_over(action: Action) -> str:
    if action.idempotency not in IDEMPOTENCIES:
        return f"idempotency must be one of {', '.join(IDEMPOTENCIES)}, not {_short(action.idempotency)}"
    if not _is_number(action.window) or action.window < 0:
        return "window must be a number of seconds from 0"
    if not _is_number(action.timeout) or not 0 < action.timeout <= 3600:
        return "timeout must be a number of seconds, above 0 and up to 3600"
    if action.lookup is not None and (not callable(action.lookup) or action.perform is None):
        return "lookup must be a function, of an action with perform"
    if action.idempotency == "lookup" and action.lookup is None:
        return 'idempotency "lookup" needs a function lookup'
    if not _is_number(action.settle) or action.settle < 0:
        return "settle must be a number of seconds from 0"
    return "" if isinstance(action.example, str) else "example must be a text"


def check_event(event: EventType) -> str:
    """Why this record can't be used, or "" if it can."""
    reason = _check_name(event.name) or _check_summary(event.summary)
    if reason:
        return reason
    if not isinstance(event.subject, str):
        return "subject must be a text"
    if not isinstance(event.fields, Mapping):
        return "fields must map names to types"
    for name, kind in event.fields.items():
        if not isinstance(name, str) or not _WORD.fullmatch(name):
            return f"field {_short(name)}: a name has lower-case letters, digits and _"
        if kind not in TYPES:
            return f"field {name!r}: type {_short(kind)} is unknown; known are {', '.join(TYPES)}"
    if not isinstance(event.changes, tuple):
        return "changes must be a tuple"
    return next(filter(None, (_check_change(event, change) for change in event.changes)), "")


def _check_change(event: EventType, change: Any) -> str:
    if not isinstance(change, Change):
        return f"{_short(change)} is no Change"
    if change.op not in EVENT_OPS:
        return f"an event can't go with the change {_short(change.op)}"
    if not isinstance(change.name, str) or not _PATH.fullmatch(change.name):
        return f"a change needs the name of a fact, not {_short(change.name)}"
    if change.op == "set_if":
        condition = change.value
        if not isinstance(condition, Mapping) or set(condition) != {"field", "equals", "value"}:
            return 'set_if needs a value {"field": …, "equals": …, "value": …}'
        if condition["field"] not in event.fields:
            return f"set_if asks for the field {_short(condition['field'])}, which the event does not have"
    return ""


def event_changes(event: EventType, data: Mapping[str, Any]) -> tuple[Change, ...]:
    """The changes that go with one event of this type: `set_if` becomes `set` where the field of `data` has the value, and is
    left out where it has not. Pure."""
    changes = []
    for change in event.changes:
        if change.op != "set_if":
            changes.append(change)
        elif change.value["field"] in data and data[change.value["field"]] == change.value["equals"]:
            changes.append(Change("set", change.name, change.value["value"]))
    return tuple(changes)


def check_outcome(answer: Any) -> str:
    """Why Camp can't act on an answer of perform or lookup as it is, or "" if it can."""
    if not isinstance(answer, Outcome):
        return f"it answered {type(answer).__name__}, not Outcome"
    if not isinstance(answer.state, str) or answer.state not in OUTCOMES:
        return f"it answered the state {_short(answer.state)}, which is none of {', '.join(OUTCOMES)}"
    if not isinstance(answer.detail, str) or "\n" in answer.detail:
        return f"its detail must be one line of text, not {_short(answer.detail)}"
    if len(answer.detail) > MAX_DETAIL:
        return f"its detail is longer than {MAX_DETAIL:,} characters"
    if not isinstance(answer.provider_id, str):
        return f"its provider_id must be a text, not {_short(answer.provider_id)}"
    if answer.retry_after is not None and not (_is_number(answer.retry_after) and answer.retry_after >= 0):
        return f"its retry_after must be seconds from 0, not {_short(answer.retry_after)}"
    return ""


def _check_name(name: Any) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return "its name must be namespace.verb in lower-case letters, digits and _"
    return "" if len(name) <= MAX_NAME_LENGTH else f"its name is longer than {MAX_NAME_LENGTH} characters"


def _check_summary(summary: Any) -> str:
    return "" if isinstance(summary, str) and summary.strip() and "\n" not in summary else "it needs a summary of one line"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


# ---------------------------------------------------------------- words and output


def _short(value: Any) -> str:
    """A value as a few characters for a message; never raises, whatever its __repr__ does."""
    try:
        text = repr(value)
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else text[:77] + "..."


def _say(error: BaseException) -> str:
    """An exception as one line."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = ""
    name = type(error).__name__
    return f"{name}: {text[:300]}" if text else name


class _StdoutToStderr:
    """While a plugin is imported, what it prints goes to stderr: stdout belongs to the data of the command that runs."""

    def __enter__(self) -> None:
        self._stdout = sys.stdout
        sys.stdout = sys.stderr

    def __exit__(self, *_: object) -> None:
        sys.stdout = self._stdout


# ---------------------------------------------------------------- finding


def installed(path: Iterable[str] | None = None) -> list[Any]:
    """The entry points of GROUP on `path` (default sys.path), unsorted.

    `importlib.metadata` costs about 25 ms to import (it needs email, csv, zipfile) and a parse of every distribution: too
    much for a `camp check` of one file. The files are plain, so folders are read directly, in about 1 ms. Where the path
    holds something that only importlib.metadata understands (a zip file, a finder of its own), it is asked instead.
    """
    folders = [entry or os.getcwd() for entry in (sys.path if path is None else path)]
    if path is None and _needs_metadata(folders):
        from importlib.metadata import entry_points

        return list(entry_points(group=GROUP))
    found: list[Source] = []
    seen: set[str] = set()
    for folder in dict.fromkeys(folders):
        for name, version, file in _metadata_files(folder):
            if name not in seen:  # the first on the path wins, as for imports
                seen.add(name)
                found.extend(_read(name, version, file))
    return found


def _needs_metadata(folders: list[str]) -> bool:
    if any(os.path.isfile(folder) for folder in folders):
        return True
    finders = (finder for finder in sys.meta_path if hasattr(finder, "find_distributions"))
    return any(getattr(finder, "__name__", "") != "PathFinder" for finder in finders)


def _metadata_files(folder: str) -> Iterator[tuple[str, str, str]]:
    """(normalised distribution, version, path of its entry_points.txt) for each distribution in a folder, sorted; the file may be
    absent, and the version unknown."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        stem, suffix = os.path.splitext(name)
        if suffix in (".dist-info", ".egg-info"):
            dist, version, *_ = [*re.split(r"-(?=[0-9])", stem, maxsplit=1), ""]
            yield re.sub(r"[-_.]+", "_", dist).lower(), version, os.path.join(folder, name, "entry_points.txt")


def _read(dist: str, version: str, file: str) -> Iterator[Source]:
    """The entry points of GROUP in one entry_points.txt; none if it can't be read."""
    try:
        with open(file, encoding="utf-8", errors="replace") as stream:
            text = stream.read()
    except OSError:
        return
    inside = False
    for line in map(str.strip, text.splitlines() if GROUP in text else ()):
        if line.startswith("["):
            inside = line == f"[{GROUP}]"
        elif inside and "=" in line and line[0] not in "#;":
            name, _, value = line.partition("=")
            source = Source(name.strip(), value.partition("[")[0].strip(), dist, version)
            if source.name and source.value:
                yield source
