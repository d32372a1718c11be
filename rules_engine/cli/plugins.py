"""`camp plugin`: what the installed plugins bring, why one is missing, whether one keeps its promises, and a new one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rules_engine.cli import errors, output
from rules_engine.cli.errors import Trouble, refused, usage
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
        columns = ("version", "distribution", "api", "runs")
        rows = [
            (item["plugin"], *(item[column] for column in columns), ", ".join(item["actions"]) or None, ", ".join(item["events"]) or None)
            for item in records
            if item["actions"] or item["events"]
        ]
        output.table(("plugin", *columns, "actions", "events"), rows)
        for item in records:
            for problem in item["problems"]:
                output.warn(f"plugin {item['plugin']}: {problem}")
    return errors.ENVIRONMENT if host.problems else errors.OK


def _host() -> Any:
    from rules_engine import host
    from rules_engine.cli.loading import warn_of_slow_plugins

    loaded = host.load(Settings().project)
    warn_of_slow_plugins(loaded)
    return loaded


def _records(host: Any) -> list[dict[str, Any]]:
    names = sorted({*host.plugins, *host.providers.values(), *(problem.plugin for problem in host.problems)})
    return [
        {
            "plugin": name,
            **_about(host, name),
            "actions": sorted(item for item in host.actions if host.providers[item] == name),
            "events": sorted(item for item in host.events if host.providers[item] == name),
            "problems": [problem.reason for problem in host.problems if problem.plugin == name],
        }
        for name in names
    ]


def _about(host: Any, name: str) -> dict[str, Any]:
    """Where a plugin comes from and where it runs. The version is in the name of an installed distribution's folder, but not always."""
    info = host.plugins.get(name)
    if info is None:
        return {"distribution": None, "version": None, "api": None, "runs": None}
    version = info.version
    if not version and info.distribution:
        from importlib import metadata

        try:
            version = metadata.version(info.distribution)
        except metadata.PackageNotFoundError:
            version = ""
    runs = "child process" if info.child else "in process"
    return {"distribution": info.distribution.replace("_", "-") or None, "version": version or None, "api": info.api, "runs": runs}


@plugin_command.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def plugin_show(name: str, as_json: bool) -> None:
    """Show a plugin, an action or an event: NAME is `email`, `email.send` or `email.opened`."""
    host = _host()
    shown = [item for item in (*sorted(host.actions), *sorted(host.events)) if item == name or host.providers[item] == name]
    problems = [problem for problem in host.problems if problem.plugin == name]
    if not shown and not problems and name not in host.plugins:
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
                **_about(host, _plugin_of(host, name)),
                "actions": [_action_record(host.actions[item]) for item in shown if item in host.actions],
                "events": [_event_record(host.events[item]) for item in shown if item in host.events],
                "problems": [problem.reason for problem in problems],
            }
        )
        return
    if name in host.plugins:
        about = _about(host, name)
        place = f"{about['distribution'] or host.plugins[name].module} {about['version'] or ''}".strip()
        api = f", API {about['api']}" if about["api"] is not None else ""
        output.data(click.style(f"plugin {name}", bold=True) + f"  ({place}, {about['runs']}{api})")
    for position, item in enumerate(shown):
        if position or name in host.plugins:
            output.data()
        if item in host.actions:
            _show_action(host.actions[item], host.providers[item])
        else:
            _show_event(host.events[item], host.providers[item])
    for problem in problems:
        output.warn(f"plugin {problem.plugin}: {problem.reason}")


def _plugin_of(host: Any, name: str) -> str:
    return str(host.providers.get(name, name))


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
    if action.address is not None:
        output.data(f"  the contact needs `{action.address}`: without it there is no message")
    if action.perform is not None:
        output.data(f"  {REPEATS[action.idempotency]}; it has {action.timeout:g} s" + ("; its provider can be asked" if action.lookup else ""))
    if action.example:
        output.data(f"  example: THEN {action.example}")


REPEATS = {
    "none": "a hand-over is never repeated unless it is proved that nothing arrived",
    "key": "its provider acts once on a repeated key",
    "lookup": "its provider tells later what it has",
}

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
        "address": action.address,
        "extra": action.extra,
        "external": action.perform is not None,
        "idempotency": action.idempotency,
        "timeout": action.timeout,
        "lookup": action.lookup is not None,
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


# ── check ──


@plugin_command.command("check")
@click.argument("name", required=False)
@click.option("--settings", "file", metavar="FILE", help="A camp.toml whose table of the plugin is used: that of a test account.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each check.")
def plugin_check(name: str | None, file: str | None, as_json: bool) -> int:
    """Hold a plugin against what every action keeps: NAME is an installed plugin, or a folder with a pyproject.toml or setup.cfg.

    Without NAME: all plugins that are not Camp's own. Without --settings a plugin gets no settings, so that it can reach nobody; its answers
    to hostile contacts and arguments must be honest all the same.
    """
    import sys

    from rules_engine.testing.checkup import check_plugin
    from rules_engine.testing.plugins import overheard

    path = list(sys.path)
    try:
        host, names = _to_check(name)
        tables = _tables(file)
        checks = [check for plugin in names for check in check_plugin(host, plugin, tables.get(plugin))]
        with overheard():  # what it had still to say
            host.close()
    finally:
        sys.path[:] = path
    if as_json:
        output.json_lines({"plugin": name, **check._asdict(), "ok": not check.problem} for check in checks)
    else:
        for check in checks:
            _show_check(check)
        bad, warned = (sum(1 for check in checks if getattr(check, field)) for field in ("problem", "warning"))
        said = (f"{bad} failed" if bad else "all hold") + (f", {output.count(warned, 'warning')}" if warned else "")
        output.say(f"{output.count(len(checks), 'check')}, {said}")
    if any(check.problem and check.rule == "loads" for check in checks):
        return errors.ENVIRONMENT
    return errors.PROBLEMS if any(check.problem for check in checks) else errors.OK


def _show_check(check: Any) -> None:
    """One check for people, and under one that failed the end of what the plugin printed."""
    failed, warned = click.style("FAIL", fg="red", bold=True), click.style("warn", fg="yellow", bold=True)
    mark = failed if check.problem else warned if check.warning else click.style("ok", fg="green") + "  "
    said = "; ".join(filter(None, (check.problem, check.warning))) or check.note
    output.data(f"{mark}  {check.what}: {check.rule}" + (f": {output.clean(said)}" if said else ""))
    for line in check.printed.splitlines() if check.problem else ():
        output.data(f"      | {output.clean(line)}")


def _to_check(name: str | None) -> tuple[Any, list[str]]:
    """The host with what is to be checked, and its names."""
    from rules_engine import host as hosts

    if name is not None and ("/" in name or Path(name).is_dir()) and (Path(name).exists() or name not in _host().plugins):
        return _in_folder(Path(name))
    host = hosts.load(Settings().project)
    names = [name] if name is not None else [plugin for plugin, info in host.plugins.items() if info.child]
    known = {*host.plugins, *(problem.plugin for problem in host.problems)}
    if name is not None and name not in known:
        from difflib import get_close_matches

        near = get_close_matches(name, known, n=1)
        raise usage(
            f"there is no plugin `{name}`, and no folder of that name",
            f"did you mean `{near[0]}`?" if near else "`camp plugin list` shows the plugins; a folder is written as ./NAME",
        )
    if not names:
        output.say("no plugin is installed but Camp's own; `camp plugin check NAME` checks one of those")
    return host, names


def _in_folder(folder: Path) -> tuple[Any, list[str]]:
    """As `_to_check`; the folder stays on the path, for processes that are started again."""
    import sys

    from rules_engine import host as hosts
    from rules_engine.testing.checkup import sources_in

    if not folder.is_dir():
        raise usage(f"{folder}: there is no such folder", "name a folder with a pyproject.toml, or an installed plugin")
    try:
        sources, root = sources_in(folder)
    except ValueError as error:
        raise Trouble(str(error), f'[project.entry-points."{hosts.GROUP}"] in pyproject.toml names the module: pager = "my_module"') from error
    sys.path.insert(0, str(root.resolve()))
    host = hosts.load({}, [*(point for point in hosts.installed() if hosts.is_own(point)), *sources])
    return host, [source.name for source in sources]


def _tables(file: str | None) -> dict[str, Any]:
    if file is None:
        return {}
    from rules_engine.cli.settings import read_toml

    path = Path(file)
    if not path.is_file():
        raise usage(f"--settings: {file}: there is no such file", "name a file like camp.toml")
    content = read_toml(path)
    inner = content.get("plugins")
    return {**content, **(inner if isinstance(inner, dict) else {})}


# ── new ──

ROOM = 10  # characters of an action's name that are left for `.verb`

NEXT_STEPS = """\
Made the plugin {name} in {folder}

Next:
  cd {folder}
  pip install -e '.[test]'
  python -m pytest            its tests, the contract among them
  camp plugin check .         the same without its tests
  camp test campaigns         the sample campaign

{module} is the whole plugin: put your provider's call into `deliver`."""


@plugin_command.command("new")
@click.argument("name")
@click.argument("directory", required=False, type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Show what would be written.")
def plugin_new(name: str, directory: Path | None, dry_run: bool) -> None:
    """Write a plugin that works: the action NAME.send, its tests, a sample campaign, ready to install. NAME is its namespace.

    DIRECTORY is a new folder (default: camp-plugin-NAME). Nothing is ever overwritten.
    """
    _check_new_name(name)
    directory = directory or Path(f"camp-plugin-{name.replace('_', '-')}")
    source = Path(__file__).parent / "templates" / "_plugin"
    words = {
        "@NAME@": name,
        "@UPPER@": name.upper(),
        "@MODULE@": f"camp_plugin_{name}",
        "@DIST@": f"camp-plugin-{name.replace('_', '-')}",
    }
    files = {}
    for path in sorted(source.rglob("*.in")):
        text = path.read_text(encoding="utf-8")
        for word, meant in words.items():
            text = text.replace(word, meant)
        place = str(path.relative_to(source))[:-3].replace("MODULE", words["@MODULE@"]).replace("gitignore", ".gitignore")
        files[directory / place] = text
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise refused(f"{directory} is there already, and is no empty folder", "nothing was written; name a new folder: camp plugin new NAME DIR")
    if dry_run:
        for path in files:
            output.data(str(path))
        output.say(f"a dry run: nothing was written; {output.count(len(files), 'file')} would be")
        return
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    output.data(NEXT_STEPS.format(name=name, folder=directory, module=f"{words['@MODULE@']}.py"))


def _check_new_name(name: str) -> None:
    """A namespace that nobody has: it is the plugin's name, its table of camp.toml and the first half of its actions' names."""
    import keyword
    import re

    from rules_engine import host as hosts
    from rules_engine.limits import MAX_NAME_LENGTH

    said = f"`{output.clean(name)}` can't be the name of a plugin"
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise usage(said, "a name has lower-case letters, digits and _, and begins with a letter: pager")
    if len(name) > MAX_NAME_LENGTH - ROOM:
        raise usage(f"a plugin's name has at most {MAX_NAME_LENGTH - ROOM} letters, and this one has {len(name)}", "take a shorter one: pager")
    if keyword.iskeyword(name):
        raise usage(f"{said}: it is a word of Python", f"take another name, such as my_{name}")
    if name in hosts.RESERVED:
        raise usage(f"`{name}` is one of Camp's own settings", "take another name")
    host = _host()
    owner = next((host.providers[item] for item in sorted(host.providers) if item.partition(".")[0] == name), name if name in host.plugins else None)
    host.close()
    if owner is not None:
        raise usage(f"the namespace `{name}` is taken by the plugin {owner}", "take another name, such as " + f"my_{name}")
