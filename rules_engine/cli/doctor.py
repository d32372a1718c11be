"""`camp doctor`: what is wrong with this installation, and what to do about it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click

from rules_engine.cli import errors, output
from rules_engine.cli.options import database_option
from rules_engine.cli.settings import DEFAULTS, SECRETS, TABLES, Address, Settings

OK, WARN, ERROR = "ok", "warn", "error"
SAFE_SQLITE = (3, 51, 3)
LITTLE = 1 << 30  # bytes of free disk
FULL = 16 << 20  # so long does the write-ahead log become
LONG_WAL = 256 << 20
LATE = 5_000  # ms of lease that a living worker of a server's database never has less of for long
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
REMOTE = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs")


class Finding(NamedTuple):
    """One thing that was looked at. level: ok | warn | error; about: what it is about; message: one sentence; help: the way out."""

    level: str
    about: str
    message: str
    help: str = ""


@click.command("doctor")
@click.option("--connect", is_flag=True, help="Also try the log-ins of mail and web transports; nothing is sent.")
@click.option("--deep", is_flag=True, help="Check every page of the database, however long it takes.")
@database_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each finding.")
def doctor_command(connect: bool, deep: bool, db: str | None, as_json: bool) -> int:
    """Look at everything that a running service needs, and say what is wrong and what to do. Changes nothing.

    Exit code 0: all is well, or warnings only; 1: errors were found; 5: it can't be run here at all.
    """
    findings = list(examine(Settings({"database": db}), connect, deep))
    if as_json:
        output.json_lines(finding._asdict() for finding in findings)
    else:
        for finding in findings:
            tell(finding)
        bad, warned = (sum(finding.level == level for finding in findings) for level in (ERROR, WARN))
        output.say(f"{output.count(bad, 'error')}, {output.count(warned, 'warning')}")
    return errors.PROBLEMS if any(finding.level == ERROR for finding in findings) else errors.OK


def tell(finding: Finding) -> None:
    """One finding for people."""
    colour = {OK: "green", WARN: "yellow", ERROR: "red"}[finding.level]
    output.data(
        click.style(f"{finding.level:5}", fg=colour, bold=finding.level != OK)
        + f"  {finding.about + ':':14}{output.clean(finding.message)}"
    )
    if finding.help:
        output.data(click.style("       help: ", fg="cyan") + output.clean(finding.help))


def examine(settings: Settings, connect: bool = False, deep: bool = False) -> Iterator[Finding]:
    """All findings, in the order in which an operator would look."""
    yield from _guarded("versions", versions)
    yield from _guarded("settings", lambda: unknown_settings(settings))
    yield from _guarded("secrets", lambda: secrets(settings))
    yield from _guarded("campaigns", lambda: campaigns(settings))
    yield from _guarded("plugins", lambda: plugins(settings))
    yield from _guarded("transports", lambda: transports(settings, connect))
    yield from _guarded("log", lambda: reports(settings))
    yield from _guarded("web", lambda: web(settings))
    yield from _guarded("mailbox", lambda: mailbox(settings, connect))
    yield from _guarded("time zones", zones)
    if not isinstance(settings.database, Address):
        yield from _guarded("disk", lambda: disk(settings.database))
    yield from _guarded("database", lambda: database(settings, deep))
    yield from _guarded("spool", lambda: spool(settings))
    yield from _guarded("retention", lambda: kept_for(settings))


def _guarded(about: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """One check that fails costs its own finding only."""
    from rules_engine.cli.faults import translate

    try:
        yield from check()
    except errors.Trouble as trouble:
        yield Finding(ERROR, about, trouble.message, trouble.help)
    except OSError as error:
        yield Finding(
            ERROR,
            about,
            f"{error.filename or about}: {(error.strerror or str(error)).lower()}",
            "look at the file's permissions",
        )
    except Exception as error:
        trouble = translate(error)
        if trouble is None:
            raise
        yield Finding(ERROR, about, trouble.message, trouble.help)


# ── the machine ──


def versions() -> Iterator[Finding]:
    """Camp, Python, SQLite."""
    from rules_engine.cli.faults import version
    from rules_engine.store import database as driver

    python, sqlite = ".".join(map(str, sys.version_info[:3])), driver.sqlite3.sqlite_version
    yield Finding(
        OK, "versions", f"Camp {version()}, Python {python}, SQLite {sqlite} ({driver.sqlite3.__name__.partition('.')[0]})"
    )
    if tuple(map(int, sqlite.split("."))) < SAFE_SQLITE:
        yield Finding(
            WARN,
            "versions",
            f"SQLite {sqlite} has a rare bug that can damage a database when its write-ahead log starts over",
            "pip install 'pysqlite3>=0.6' brings a newer one (where it has a wheel); or a Python with SQLite 3.51.3 or later",
        )


def zones() -> Iterator[Finding]:
    """The zones' data is the package's, and of this year."""
    from importlib.metadata import version

    number = version("tzdata")
    year = int(number.partition(".")[0])
    level = WARN if year < _year() - 1 else OK
    help = "pip install -U tzdata, then restart the service" if level == WARN else ""
    yield Finding(level, "time zones", f"the zones are those of tzdata {number}", help)


def _year() -> int:
    from rules_engine.runtime.calendar import format_utc

    return int(format_utc(_now())[:4])


def _now() -> int:
    from rules_engine.clock import SystemClock

    return SystemClock().now()


def disk(database: Path) -> Iterator[Finding]:
    """Free space, what can be written, and whether the disk is this machine's own."""
    from rules_engine.store import database as driver

    folder = database.parent
    if not folder.is_dir():
        yield Finding(ERROR, "disk", f"the folder {folder} does not exist", "make it, or name another database")
        return
    free = os.statvfs(folder)
    room = free.f_bavail * free.f_frsize
    need = max(LITTLE, 2 * (database.stat().st_size if database.exists() else 0))
    if room < FULL:
        said = f"the disk is full: {room >> 20} MB are free, so nothing can be recorded"
        yield Finding(ERROR, "disk", said, "free some space, never by deleting camp.db*")
    elif room < need:
        yield Finding(
            WARN, "disk", f"{room >> 20:,} MB are free, and a backup or a vacuum may need {need >> 20:,} MB", "free some space"
        )
    else:
        yield Finding(OK, "disk", f"{room >> 30:,} GB are free")
    for path in driver.unwritable(database):
        help = "SQLite needs to make files beside the database" if path == folder else f"check the owner and the mode of {path}"
        yield Finding(ERROR, "disk", f"{path} can't be written by this user", f"{help}; is this the service's user?")
    kind = _filesystem(folder)
    if kind in REMOTE:
        yield Finding(
            ERROR,
            "disk",
            f"the database is on a network disk ({kind}), where locks can't be trusted",
            "move it to a local disk",
        )


def _filesystem(folder: Path) -> str:
    """The type of the file system, from the longest mount point above the folder."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    best, kind = "", ""
    for line in lines:
        _, point, found, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        inside = folder.resolve().is_relative_to(point)
        if inside and len(point) >= len(best):
            best, kind = point, found
    return kind


# ── settings ──


def unknown_settings(settings: Settings) -> Iterator[Finding]:
    """Names that nothing reads: mostly typing mistakes."""
    from difflib import get_close_matches

    if settings.file is None:
        yield Finding(
            ERROR,
            "settings",
            f"there is no camp.toml in {settings.folder} or above it",
            "go to its folder; camp init makes one",
        )
        return
    names, keys = _known(settings)
    bad = 0
    for name, value in settings.project.items():
        known = [*DEFAULTS, *keys] if not isinstance(value, dict) else [*keys]
        if name not in known:
            bad += 1
            near = get_close_matches(name, known, n=1, cutoff=0.7)
            hint = (
                f"is `{near[0]}` meant?"
                if near
                else "a table belongs to the plugin of its name"
                if isinstance(value, dict)
                else "remove it"
            )
            yield Finding(
                WARN, "settings", f"{settings.file}: nothing reads {f'[{name}]' if isinstance(value, dict) else name}", hint
            )
        elif isinstance(value, dict) and keys[name]:
            for key in value:
                if key not in keys[name]:
                    bad += 1
                    near = get_close_matches(key, keys[name], n=1, cutoff=0.6)
                    hint = f"is `{near[0]}` meant?" if near else f"[{name}] has {', '.join(sorted(keys[name]))}"
                    yield Finding(WARN, "settings", f"{settings.file}: nothing reads `{key}` of [{name}]", hint)
    if not bad:
        yield Finding(OK, "settings", f"{settings.file} has {len(names)} settings, all of them known")


ANY_PLUGIN = ("throttle",)  # what Camp itself reads of every plugin's table


def _known(settings: Settings) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """(names of settings in the file, table -> its keys; no keys: nobody knows, so nothing is said). A plugin says its own by
    SETTINGS, a tuple of names in its module."""
    from rules_engine import host

    keys: dict[str, tuple[str, ...]] = {name: tuple(table) for name, table in TABLES.items()}
    loaded = host.load(settings.project)
    for plugin in {*loaded.providers.values(), *(problem.plugin for problem in loaded.problems)}:
        modules = {
            action.perform.__module__
            for name, action in loaded.actions.items()
            if action.perform and loaded.providers[name] == plugin
        }
        declared = [getattr(sys.modules.get(module), "SETTINGS", None) for module in modules]
        keys.setdefault(plugin, (*(name for names in declared if names for name in names), *ANY_PLUGIN) if all(declared) else ())
    return [item.name for item in settings.all()], keys


def secrets(settings: Settings) -> Iterator[Finding]:
    """Secrets belong into the environment, and files with personal data to their owner alone."""
    found = [name for name, _ in _leaves(settings.project) if _is_secret(name)]
    if settings.file is not None and found:
        readable = settings.file.stat().st_mode & 0o004
        yield Finding(
            ERROR if readable else WARN,
            "secrets",
            f"{settings.file} holds {', '.join(found)}" + (", and everybody on this machine may read it" if readable else ""),
            f"give it by the environment instead: CAMP_{found[0].upper().replace('.', '_')}"
            + (f"; or chmod 600 {settings.file}" if readable else ""),
        )
    else:
        yield Finding(OK, "secrets", "no secret is in camp.toml")
    files = () if isinstance(settings.database, Address) else (settings.database,)
    journals = tuple(path.with_name(path.name + ".sent") for path in files)
    for path in (*files, *journals, *(settings.folder / name for name in ("outbox", "spool", "backups"))):
        if path.exists() and path.stat().st_mode & 0o004 and _open_to_all(path.parent):
            yield Finding(
                WARN, "secrets", f"{path} holds personal data, and everybody on this machine may read it", f"chmod o-rwx {path}"
            )
    if settings.folder.stat().st_mode & 0o002 and _open_to_all(settings.folder):
        said = f"everybody on this machine may write into {settings.folder}, and so change what is sent and to whom"
        yield Finding(WARN, "secrets", said, f"chmod o-rwx {settings.folder}")


def _open_to_all(folder: Path) -> bool:
    """Whether strangers get as far as this folder."""
    return all(place.stat().st_mode & 0o001 for place in (folder, *folder.parents))


def _leaves(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _is_secret(name: str) -> bool:
    word = name.rsplit(".", 1)[-1].lower()
    return any(word == secret or word.endswith("_" + secret) for secret in SECRETS)


# ── the project ──


def campaigns(settings: Settings) -> Iterator[Finding]:
    """What `camp check` says, counted."""
    from rules_engine import project
    from rules_engine.cli.loading import has_campaigns

    if not has_campaigns(settings):  # that there is no project here, the settings have told
        return
    loaded = project.load_program([settings.folder], build=False)
    bad = sum(item.severity == "error" for item in loaded.diagnostics)
    warned = sum(item.severity == "warning" for item in loaded.diagnostics)
    said = (
        f"{output.count(len(loaded.sources), 'file')} with {output.count(bad, 'error')} and {output.count(warned, 'warning')}"
    )
    level = ERROR if bad else WARN if warned or not loaded.sources else OK
    yield Finding(
        level,
        "campaigns",
        said,
        "" if level == OK else "camp check tells all of them" if loaded.sources else "write a .camp file",
    )


def plugins(settings: Settings) -> Iterator[Finding]:
    """Plugins that could not be loaded."""
    from rules_engine import host
    from rules_engine.cli.loading import slow_plugins

    loaded = host.load(settings.project)
    yield from (Finding(WARN, "plugins", message, way) for message, way in slow_plugins(loaded))
    for problem in loaded.problems:
        missing = [name for name in problem.names_lost if name not in loaded.providers]
        lost = f"; missing are {', '.join(missing)}" if missing else ""
        off = f', or switch it off: disabled = ["{problem.plugin}"] under [plugins] in camp.toml'
        way = "uninstall the one that you don't want" if problem.extent == "namesake" else f"upgrade or uninstall it{off}"
        yield Finding(ERROR, "plugins", f"plugin {problem.plugin}: {problem.reason}{lost}", way)
    if not loaded.problems:
        yield Finding(OK, "plugins", f"{output.count(len(set(loaded.providers.values())), 'plugin')} work")


def transports(settings: Settings, connect: bool) -> Iterator[Finding]:
    """Where messages go, and with --connect whether one gets in there."""
    from rules_engine import project
    from rules_engine.cli import sending

    loaded = project.load_program([settings.folder], build=False)
    tables = sending.tables_of(loaded.host, settings)
    wrong = list(sending.faults(loaded, settings, tables))
    for name in sorted({loaded.host.providers[name] for name, action in loaded.host.actions.items() if action.perform}):
        faults = [fault for fault in wrong if fault.plugin == name]
        yield from (Finding(ERROR if fault.fatal else WARN, "transports", fault.message, fault.help) for fault in faults)
        module = sending.module_of(loaded.host, name)
        known = tuple(getattr(module, "TRANSPORTS", ()))
        transport = tables[name].get("transport", "folder" if "folder" in known else None)
        if any(fault.fatal for fault in faults):
            continue
        if transport == "folder" and "folder" in known:
            if name in settings.project:
                yield Finding(
                    OK,
                    "transports",
                    f"{name}: into the folder {tables[name].get('folder', 'outbox')}/; nothing leaves this machine",
                )
        elif transport is None:
            yield Finding(OK, "transports", f"{name}: it does not say where its hand-overs go, and is not tried")
        elif not connect:
            yield Finding(OK, "transports", f"{name}: {transport} (not tried; --connect tries it)")
        else:
            yield _try(name, str(transport), tables[name], getattr(module, "try_out", None))


def _try(name: str, transport: str, table: dict[str, Any], try_out: Any) -> Finding:
    """Greets the server; sends nothing. A plugin's module may have a function `try_out(settings)` that knows how."""
    try:
        said = try_out(table) if callable(try_out) else _try_http(table)
    except Exception as error:  # whatever a network or a plugin's library raises is the finding
        text = " ".join(str(error).split())[:200]
        return Finding(
            ERROR,
            "transports",
            f"{name}: {transport} does not work: {type(error).__name__}: {text}",
            f"look at [{name}] in camp.toml",
        )
    return Finding(OK, "transports", f"{name}: {said}")


def _try_http(table: dict[str, Any]) -> str:
    """Opens a connection to the address, and says nothing there."""
    import socket
    import ssl
    from urllib.parse import urlsplit

    url = urlsplit(str(table.get("url") or ""))
    if not url.hostname:
        return "each campaign names its own address" if not table.get("url") else "the setting url is no address"
    with socket.create_connection((url.hostname, url.port or (443 if url.scheme == "https" else 80)), timeout=10) as line:
        if url.scheme == "https":
            ssl.create_default_context().wrap_socket(line, server_hostname=url.hostname).close()
    return f"{url.hostname} answers" + (" over TLS" if url.scheme == "https" else "")


def reports(settings: Settings) -> Iterator[Finding]:
    """[log] and [metrics]: values that can be, in folders that are there. Nothing where all is well."""
    from rules_engine.cli import operating

    operating.check_log(settings)
    for name in ("log.file", "metrics.file"):
        file = settings.get(name).value
        folder = (settings.folder / str(file)).parent if file else settings.folder
        if not folder.is_dir():
            yield Finding(ERROR, "log", f"{name} is {file}, and there is no folder {folder}", "make it, or name another file")


def web(settings: Settings) -> Iterator[Finding]:
    """[web], as `camp run --web` reads it, and whether links of messages lead to us."""
    from rules_engine.cli.web import web_settings

    table = settings.tables(["web"])["web"]
    if not table:
        return
    web_settings(settings)
    without = "so messages have no tracked links and no unsubscribe link of Camp's"
    if table.get("url") and not table.get("secret"):
        yield Finding(WARN, "web", f"CAMP_WEB_SECRET is not set, {without}", "openssl rand -hex 24 makes one")
    elif table.get("secret") and not table.get("url"):
        yield Finding(WARN, "web", f"[web] url is not set, {without}", 'url = "https://news.shop.example"')
    else:
        yield Finding(OK, "web", "the settings can be used" + (f"; links of messages lead to {table['url']}" if table.get("url") else ""))
    kept = settings.get("email.unsubscribe_url")
    if table.get("url") and table.get("secret") and kept.value:
        way = f"remove email.unsubscribe_url ({kept.source}) to have signed one-click links"
        yield Finding(WARN, "web", f"unsubscribe links lead to {kept.value}, not to Camp", way)


def mailbox(settings: Settings, connect: bool) -> Iterator[Finding]:
    """[mailbox]: whether it can be read; a server is asked with --connect only."""
    from rules_engine.cli.mailbox import without_keys
    from rules_engine.service import mailbox as boxes

    found = without_keys(settings)
    if not found:
        return
    try:
        boxes.seconds_between(found)
        if found.get("folder") or connect or not found.get("host"):
            with boxes.open_box(found):
                pass
            yield Finding(OK, "mailbox", f"{found.get('folder') or found.get('host')} can be read")
        else:
            yield Finding(OK, "mailbox", f"{found['host']} (not tried; --connect tries it)")
    except boxes.Trouble as trouble:
        yield Finding(ERROR, "mailbox", f"it can't be used: {trouble}", "see [mailbox] in camp.toml; the password is CAMP_MAILBOX_PASSWORD")


# ── the database and what runs on it ──


def database(settings: Settings, deep: bool) -> Iterator[Finding]:
    """The file or the server, and what waits in it."""
    from rules_engine.cli.loading import open_store

    if not settings.database.exists():
        yield Finding(WARN, "database", f"there is no database {settings.database} yet", "imports and camp run make it")
        return
    with open_store(None, settings=settings) as store:
        on_server = isinstance(settings.database, Address)
        now, running = store.clock.now() if on_server else _now(), store.running()
        yield from _whole(settings.database, store, deep)
        yield (
            Finding(OK, "service", "camp run is active")
            if running
            else Finding(WARN, "service", "camp run is not active", "start it: camp run")
        )
        yield from _home_of_server(store) if on_server else _guarded("send journal", lambda: _journal(settings.database, store))
        yield from _guarded("clock", lambda: _clock(store, now))
        yield from _guarded("backlog", lambda: _waiting(store, now, running))
        yield from _guarded("outbox", lambda: _outbox(store))
        yield from _guarded("pauses", lambda: _paused(store))
        if on_server:
            yield Finding(OK, "backup", "the server's own: Camp does not see it (docs/cluster.md)")
            return
        yield from _backup(store, now, settings.folder / str(settings.get("backup.folder").value or "backups"))


def _journal(path: Path, store: Any) -> Iterator[Finding]:
    """The send journal beside a file."""
    from rules_engine.service.sent import SentJournal, beside

    problem = SentJournal(beside(path)).problem(store)
    if problem:
        yield Finding(ERROR, "send journal", problem, "camp db adopt, once no other copy of this database runs; never delete the journal")
    else:
        yield Finding(OK, "send journal", "it belongs to this database")


def _home_of_server(store: Any) -> Iterator[Finding]:
    """A server's database has no send journal: it knows where it is at home. And who works on it."""
    if store.at_home():
        yield Finding(OK, "home", "the database is where it was")
    else:
        said = "the database is not where it was: restored, copied, or a standby took over"
        yield Finding(ERROR, "home", said, "camp db adopt, once nothing else sends from it")
    for worker in store.workers():
        left, shards = worker.until, output.count(worker.shards, "shard")
        if left < LATE:
            said = f"silent for {_span(-left)} beyond its lease" if left < 0 else f"late with its sign of life: its lease ends in {_span(left)}"
            yield Finding(WARN, "workers", f"{worker.name} with {shards} is {said}", "look at its machine; the others take its shards")
        else:
            yield Finding(OK, "workers", f"{worker.name} has {shards}; lease for {_span(left)}")


def _whole(path: Path | Address, store: Any, deep: bool) -> Iterator[Finding]:
    from rules_engine.store.migrations import MIGRATIONS

    if isinstance(path, Address):
        said = store.check()
        way = "restore the server's backup (docs/cluster.md), and look at pg_amcheck"
        if said:
            yield Finding(ERROR, "database", f"{path} is damaged: {said[0]}", way)
        else:
            yield Finding(OK, "database", f"{path}: {store.size():,} bytes: whole")
        return
    size = path.stat().st_size
    wal = path.with_name(path.name + "-wal")
    log = wal.stat().st_size if wal.exists() else 0
    said = store.check() if deep else store.quick_check()
    if said:
        yield Finding(
            ERROR, "database", f"{path} is damaged: {said[0]}", "stop the service and restore a backup: camp db restore FILE"
        )
    else:
        yield Finding(
            OK,
            "database",
            f"{path}: {size:,} bytes, schema {len(MIGRATIONS)}, {'every page' if deep else 'a quick look'}: whole",
        )
    if log > LONG_WAL:
        yield Finding(
            WARN,
            "database",
            f"the write-ahead log has {log >> 20:,} MB: something reads for very long",
            "end long exports and backups",
        )


def _clock(store: Any, now: int) -> Iterator[Finding]:
    """The machine's clock against the log's: time must not stand before what has happened."""
    ahead = store.position().clock - now
    if ahead > 5_000:
        yield Finding(
            ERROR if ahead > HOUR else WARN,
            "clock",
            f"the log's time is {_span(ahead)} ahead of this machine's clock; nothing is due until it is reached",
            "set the clock (timedatectl); if a wrong clock ran ahead before, the service waits for that moment",
        )
    else:
        yield Finding(OK, "clock", "the machine's clock and the log agree")


def _waiting(store: Any, now: int, running: bool) -> Iterator[Finding]:
    waits = store.backlog(now)
    age = 0 if waits.received is None else max(0, now - waits.received)
    if waits.new:
        level = WARN if age > MINUTE else OK
        help = (
            ("the service is behind: look at its log and at the load" if running else "start it: camp run")
            if level == WARN
            else ""
        )
        yield Finding(
            level, "backlog", f"{output.count(waits.new, 'event')} not processed yet, the oldest for {_span(age)}", help
        )
    else:
        yield Finding(OK, "backlog", "every event is processed")
    late = 0 if waits.wake is None else now - waits.wake
    if waits.overdue and late > MINUTE:
        yield Finding(
            WARN,
            "timers",
            f"{output.count(waits.overdue, 'contact')} should have been woken, the first {_span(late)} ago",
            "the service is behind: look at its log" if running else "start it: camp run",
        )
    else:
        yield Finding(OK, "timers", "no timer is overdue")
    if waits.set_aside:
        yield Finding(
            WARN,
            "set aside",
            f"{output.count(waits.set_aside, 'event')} could not be processed",
            "camp status shows the latest and why",
        )


def _outbox(store: Any) -> Iterator[Finding]:
    waits = store.backlog(_now()).effects
    words = {
        "unknown": (
            ERROR,
            "nobody knows whether they left",
            "look at the provider's log, then camp outbox resolve NUMBER accepted|failed|ready",
        ),
        "held": (WARN, "they wait for a person's yes", "camp outbox list --state held"),
        "failed": (
            WARN,
            "they did not leave and will not by themselves",
            "camp outbox list --state failed; camp outbox retry sends one again",
        ),
        "retry_wait": (OK, "they are tried again", ""),
        "claimed": (OK, "they are being handed over", ""),
        "ready": (OK, "they leave next", ""),
        "planned": (OK, "their time has not come", ""),
    }
    for state, (level, meaning, help) in words.items():
        if waits.get(state):
            rows = store.effects(state, limit=100_000)
            oldest = f", the oldest for {_span(max(0, _now() - min(row.at for row in rows)))}" if rows and level != OK else ""
            yield Finding(level, "outbox", f"{output.count(waits[state], 'effect')} {state}: {meaning}{oldest}", help)
    if not waits:
        yield Finding(OK, "outbox", "nothing waits")


def _paused(store: Any) -> Iterator[Finding]:
    from rules_engine.runtime.calendar import format_utc
    from rules_engine.store.port import EVERYTHING

    for pause in store.pauses() if hasattr(store, "pauses") else ():
        name = "everything" if pause.campaign == EVERYTHING else pause.campaign
        why = f": {pause.reason}" if pause.reason else ""
        yield Finding(
            WARN,
            "pauses",
            f"{name} is paused since {format_utc(pause.at)}{why}",
            f"camp resume {'--all' if pause.campaign == EVERYTHING else name}",
        )


def _backup(store: Any, now: int, folder: Path) -> Iterator[Finding]:
    when, _, file = (store.noted("backup") or "").partition(" ")
    # A backup can't know of itself: after a restore only its file tells of it.
    for path in folder.glob("camp-*.db") if folder.is_dir() else ():
        made = int(path.stat().st_mtime * 1000)
        if made > int(when or 0) + MINUTE:
            when, file = str(made), str(path)
    if not when:
        yield Finding(
            WARN, "backup", "no backup was ever made", "camp db backup --keep 14, once a day (cron or a systemd timer)"
        )
        return
    age = now - int(when)
    gone = "" if Path(file).exists() else ", but it is not there any more"
    level = WARN if age > 2 * DAY or gone else OK
    yield Finding(
        level,
        "backup",
        f"the last one is {_span(age)} old: {file}{gone}",
        "camp db backup --keep 14, once a day" if level == WARN else "",
    )


def spool(settings: Settings) -> Iterator[Finding]:
    """Files that wait, and those that could not be used."""
    from rules_engine.cli import operating
    from rules_engine.service.spool import check, look

    name = settings.get("spool.folder").value
    if not name:
        return
    try:
        check(operating.table(settings, "spool"))
    except ValueError as error:
        yield Finding(ERROR, "spool", str(error), "look at [spool] in camp.toml")
    found = look(settings.folder / str(name))
    if found.failed:
        yield Finding(
            WARN, "spool", f"{output.count(found.failed, 'file')} could not be used", f"see the .reason files in {name}/failed/"
        )
    age = 0 if found.oldest is None else max(0, _now() - found.oldest)
    waits = f"{output.count(found.waiting, 'file')} waiting" + (f", the oldest for {_span(age)}" if found.waiting else "")
    yield Finding(WARN if age > 10 * MINUTE else OK, "spool", waits, "is camp run active?" if age > 10 * MINUTE else "")


def kept_for(settings: Settings) -> Iterator[Finding]:
    """How long what was done is kept."""
    from rules_engine.cli.upkeep import kept

    for name, days in kept(settings)._asdict().items():
        if days is None:
            yield Finding(
                OK,
                "retention",
                f"{name}: kept for ever, so the database grows",
                f'[retention] {name} = "400 days" in camp.toml bounds it',
            )
        else:
            yield Finding(OK, "retention", f"{name}: kept for {days:,} days")


def _span(milliseconds: int) -> str:
    """A length of time in one unit."""
    for size, word in ((DAY, "day"), (HOUR, "hour"), (MINUTE, "minute")):
        if milliseconds >= 2 * size:
            return output.count(milliseconds // size, word)
    return output.count(max(0, milliseconds // 1000), "second")
