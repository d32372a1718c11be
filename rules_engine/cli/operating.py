"""What surrounds a running service, as the settings say: its log, metrics, spool, retention and send journal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rules_engine.cli.errors import Trouble
from rules_engine.cli.settings import Address, Settings


def log(settings: Settings) -> None:
    """Sets up the log as [log] says: format, level, file. Trouble for a setting that can't be."""
    from rules_engine.clock import SystemClock
    from rules_engine.service import logs

    check_log(settings)
    form, level = settings.get("log.format"), settings.get("log.level")
    file = settings.get("log.file").value
    try:
        logs.set_up(
            SystemClock(), form.value or "text", level.value or "warning", settings.folder / str(file) if file else None
        )
    except OSError as error:
        raise Trouble(f"the log {file} can't be written: {error.strerror}", "[log] file in camp.toml names it") from error


def check_log(settings: Settings) -> None:
    """Trouble for a format or level that there is not."""
    from rules_engine.service import logs

    for name, known in (("log.format", logs.FORMATS), ("log.level", logs.LEVELS)):
        setting = settings.get(name)
        if setting.value is not None and setting.value not in known:
            raise Trouble(f"{setting.source}: {setting.name} is {setting.value!r}", f"it can be {', '.join(known)}")


def meter(settings: Settings, host: Any, web: bool = False) -> Any:
    """The metrics, where something will read them (a file, or /metrics of the web); else None. Trouble if their library is missing."""
    if not web and not settings.get("metrics.file").value:
        return None
    try:
        from rules_engine.service.metrics import Meter
    except ModuleNotFoundError as error:
        raise Trouble(
            "[metrics] needs prometheus-client, which is not installed", "pip install 'camp-rules-engine[web]'"
        ) from error
    return Meter(sorted(name for name, action in host.actions.items() if action.perform))


def options(store: Any, settings: Settings, loaded: Any, meter: Any) -> dict[str, Any]:
    """What `loop.run_once` and `loop.run_forever` take besides the program. Trouble for a setting that can't be."""
    from rules_engine.cli.upkeep import kept
    from rules_engine.clock import SystemClock
    from rules_engine.service.sent import SentJournal, beside
    from rules_engine.service.spool import spool_of
    from rules_engine.service.upkeep import Trimmer

    clock = SystemClock()
    # On a server several workers hand over, perhaps from several machines, and no one file knows of all: see `Leases._check_home`.
    file = None if isinstance(settings.database, Address) else settings.database
    sent = None if file is None else SentJournal(beside(file))
    try:
        spool = spool_of(table(settings, "spool"), settings.folder, store, loaded.program, clock)
    except (ValueError, OSError) as error:
        raise Trouble(f"the spool can't be used: {error}", '[spool] folder = "spool" in camp.toml') from error
    chores: list[tuple[int, Any]] = [(1, Trimmer(store, kept(settings), clock, sent))]
    if meter is not None:
        target = settings.folder / str(settings.get("metrics.file").value) if settings.get("metrics.file").value else None
        measure = Measure(meter, store, clock, file, target)
        try:
            measure()
        except OSError as error:
            raise Trouble(f"the metrics can't be written to {target}: {error.strerror}", "[metrics] file in camp.toml names it") from error
        chores.append((5, measure))
    return {"sent": sent, "spool": spool, "meter": meter, "chores": chores}


def ended(meter: Any, settings: Settings) -> None:
    """The file says that the service does not run any more."""
    meter.down()
    file = settings.get("metrics.file").value
    if file:
        meter.write(settings.folder / str(file))


class Measure:
    """The chore that reads the gauges, and writes the file."""

    def __init__(self, meter: Any, store: Any, clock: Any, database: Path | None, file: Path | None) -> None:
        self._meter, self._store, self._clock, self._database, self._file = meter, store, clock, database, file

    def __call__(self) -> None:
        self._meter.refresh(self._store, self._clock.now(), self._database)
        if self._file is not None:
            self._meter.write(self._file)


def table(settings: Settings, name: str) -> dict[str, Any]:
    """One of Camp's own tables, each value from where it is in force."""
    from rules_engine.cli.settings import TABLES

    found = {key: settings.get(f"{name}.{key}").value for key in TABLES[name]}
    return {key: _number(value) for key, value in found.items() if value is not None}


def _number(value: Any) -> Any:
    """A variable's text as a number, where it is one."""
    return int(value) if isinstance(value, str) and value.isdigit() else value


def own(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A table of a settings file; empty where it is none."""
    found = content.get(name)
    return found if isinstance(found, Mapping) else {}
