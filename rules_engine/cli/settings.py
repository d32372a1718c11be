"""Settings: flag > CAMP_* environment > camp.toml found upward > user config > default. Each value knows where it came from."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rules_engine.actions import SECRETS
from rules_engine.cli.errors import Trouble

PROJECT_FILE = "camp.toml"

DEFAULTS: dict[str, tuple[Any, str]] = {
    "name": (None, "what the project is called"),
    "database": ("camp.db", "the file with contacts, events and what was done, or postgresql://… for several workers"),
    "templates": ("templates", "the folder with the texts of messages"),
    "format": ("human", "how check reports: human, short, json, github, sarif"),
}
"""Camp's own settings: default and meaning. Tables such as [email] belong to the plugins of that name."""

TABLES: dict[str, dict[str, str]] = {
    "log": {
        "format": "text (default) or json",
        "level": "debug, info, warning (default), error",
        "file": "a file to append to instead of stderr",
    },
    "metrics": {"file": "a .prom file for node_exporter's textfile collector"},
    "spool": {
        "folder": "the folder whose files are imported",
        "quiet": "seconds without a change before a file is taken (5)",
        "keep_days": "days after which done files are deleted (kept)",
    },
    "retention": {
        "events": 'how long contents of events are kept, such as "400 days" (for ever)',
        "journal": "how long decisions are kept (for ever)",
        "outbox": "how long effects that ended are kept, from 90 days (for ever)",
    },
    "backup": {"folder": "where `camp db backup` puts its files (backups)"},
    "mailbox": {
        "folder": "a Maildir; or host and what follows, for IMAP",
        **dict.fromkeys(("host", "port", "tls", "ca_file", "user", "password", "inbox", "done", "aside", "timeout"), "docs/messages.md"),
        "every": "seconds between two looks (60)",
    },
    "web": {},
    "plugins": {},
}
"""Camp's own tables: key and meaning. A table of another name belongs to the plugin of that name."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A value in force. source: "--db", "CAMP_DATABASE", the path of a file, or "default"."""

    name: str
    value: Any
    source: str


def project_file(start: Path | None = None) -> Path | None:
    """The nearest camp.toml in the folder or above it."""
    folder = (start or Path.cwd()).resolve()
    if folder.is_file():
        folder = folder.parent
    for place in (folder, *folder.parents):
        candidate = place / PROJECT_FILE
        if candidate.is_file():
            return candidate
    return None


def user_file() -> Path:
    """The user's own settings, for all projects."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return Path(base) / "camp" / "config.toml"


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a settings file. Trouble with the place of a mistake."""
    import tomllib

    try:
        with path.open("rb") as stream:
            return tomllib.load(stream)
    except tomllib.TOMLDecodeError as error:
        text = str(error)
        raise Trouble(f"{path}: {text[:1].lower()}{text[1:]}", 'settings are written in TOML: name = "value"') from error
    except UnicodeDecodeError as error:
        raise Trouble(f"{path}: the file is not in UTF-8", "save it as UTF-8") from error


class Settings:
    """All settings in force for one command. `folder` is the project's: where camp.toml is, else where we are."""

    def __init__(self, flags: Mapping[str, Any] | None = None, start: Path | None = None) -> None:
        self.flags = {name: value for name, value in (flags or {}).items() if value is not None}
        self.file = project_file(start)
        if self.file is not None:
            self.folder = self.file.parent
        else:
            here = (start or Path.cwd()).resolve()
            self.folder = here if here.is_dir() else here.parent
        self.project = read_toml(self.file) if self.file is not None else {}
        user = user_file()
        self.user = read_toml(user) if user.is_file() else {}

    def get(self, name: str) -> Setting:
        """The setting of that name (`database`, `email.transport`); its value is None where nothing gives one."""
        if name in self.flags:
            return Setting(name, self.flags[name], FLAGS.get(name, f"--{name}"))
        variable = "CAMP_" + name.upper().replace(".", "_")
        if os.environ.get(variable):
            return Setting(name, os.environ[variable], variable)
        for content, file in ((self.project, self.file), (self.user, user_file())):
            found = _look_up(content, name)
            if found is not None:
                return Setting(name, found, str(file))
        return Setting(name, DEFAULTS.get(name, (None, ""))[0], "default")

    def all(self) -> list[Setting]:
        """Camp's own settings, then those of the files' tables, in the order of the files."""
        names = dict.fromkeys(DEFAULTS)
        for content in (self.project, self.user):
            names.update(dict.fromkeys(_paths(content)))
        names.update(dict.fromkeys(_variables()))
        return [self.get(name) for name in names]

    def tables(self, names: list[str]) -> dict[str, dict[str, Any]]:
        """The table of each plugin: the user's own, over it camp.toml's, over it CAMP_NAME_KEY from the environment (for
        secrets)."""
        from rules_engine.isolation import owner

        found: dict[str, dict[str, Any]] = {}
        for name in names:
            table = {**_table(self.user, name), **_table(self.project, name)}
            prefix = f"CAMP_{name.upper()}_"
            for variable, text in sorted(os.environ.items()):
                if text and variable.startswith(prefix) and owner(variable, names) == name:
                    key = variable[len(prefix) :].lower()
                    table[key] = _like(text, table.get(key))
            found[name] = table
        return found

    @property
    def database(self) -> Path | Address:
        """The database's file: a flag or a variable counts from where we are, camp.toml from where it stands. Or its address."""
        setting = self.get("database")
        if not isinstance(setting.value, str) or not setting.value:
            raise Trouble(f'{setting.source}: database must be the name of a file, such as "camp.db", or postgresql://…')
        if setting.value.startswith(("postgresql://", "postgres://")):
            return Address(setting.value)
        path = Path(setting.value).expanduser()
        base = Path.cwd() if setting.source in (FLAGS["database"], "CAMP_DATABASE") else self.folder
        return path if path.is_absolute() else base / path

    @property
    def database_file(self) -> Path:
        """The database's file. Trouble where it is on a server: what asks for this works on files only."""
        path = self.database
        if isinstance(path, Address):
            raise Trouble(f"this works on a database file, and {path} is on a server", "docs/cluster.md tells what to do there")
        return path


class Address:
    """Where a database on a server is. As a text it is without its password."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __str__(self) -> str:
        from urllib.parse import urlsplit, urlunsplit

        parts = urlsplit(self.url)
        user, at, host = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=user.partition(":")[0] + at + host))

    def exists(self) -> bool:
        """Nobody knows before it was asked: opening says so in words."""
        return True


FLAGS = {"database": "--db"}


def _table(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A plugin's table: [email], or [plugins.email]."""
    inner = content.get("plugins")
    tables = (inner.get(name) if isinstance(inner, Mapping) else None, content.get(name))
    return {key: value for table in tables if isinstance(table, Mapping) for key, value in table.items()}


def _like(text: str, known: Any) -> Any:
    """A variable's text as the type that camp.toml gives the same setting."""
    if isinstance(known, bool):
        return text.strip().lower() in ("1", "true", "yes", "on")
    if isinstance(known, int) and text.strip().lstrip("-").isdigit():
        return int(text)
    return text


def _look_up(content: Any, name: str) -> Any:
    """The value under a dotted name. A key may have dots of its own: "consent.email" in [web.preferences]."""
    if not isinstance(content, Mapping):
        return None
    if name in content:
        return content[name]
    parts = name.split(".")
    heads = (".".join(parts[:number]) for number in range(1, len(parts)))
    return next((found for head in heads if (found := _look_up(content.get(head), name[len(head) + 1 :])) is not None), None)


def _variables() -> list[str]:
    """Settings of plugins that the environment gives: CAMP_EMAIL_PASSWORD is email.password."""
    parts = [
        variable.removeprefix("CAMP_").lower().partition("_") for variable in sorted(os.environ) if variable.startswith("CAMP_")
    ]
    return [f"{plugin}.{key}" for plugin, _, key in parts if plugin and key]


def _paths(content: Mapping[str, Any], prefix: str = "") -> list[str]:
    paths: list[str] = []
    for name, value in content.items():
        if isinstance(value, Mapping):
            paths += _paths(value, f"{prefix}{name}.")
        else:
            paths.append(prefix + name)
    return paths


def shown(setting: Setting) -> Any:
    """A value as it may be shown: secrets are not."""
    name = setting.name.lower()  # all of it: [web.tokens] names each token by its owner
    if name == "database" and isinstance(setting.value, str) and "://" in setting.value:
        return str(Address(setting.value))
    if setting.value and any(secret in name for secret in SECRETS):
        return "(hidden)"
    if isinstance(setting.value, str):  # https://user:password@host
        return re.sub(r"(?<=://)[^/@\s]*@", "(hidden)@", setting.value)
    return setting.value
