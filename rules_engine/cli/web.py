"""`camp run --web ADDR`: the settings of [web], and what runs beside the service."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from rules_engine.cli import output
from rules_engine.cli.errors import Trouble, usage
from rules_engine.cli.settings import Settings

INSTALL = "pip install 'camp-rules-engine[web]'"


def web_settings(settings: Settings) -> Any:
    """[web], checked. Trouble names the setting that is wrong."""
    from rules_engine.service.web.settings import read_settings

    try:
        return read_settings(settings.tables(["web"])["web"])
    except ValueError as error:
        raise Trouble(str(error), "docs/http.md has an example of each") from error


def signed_links(settings: Settings) -> dict[str, str] | None:
    """What the plugins that write messages need to sign links: the public address and the key, where both are set."""
    return web_settings(settings).links if settings.tables(["web"])["web"] else None


def beside(
    address: str, loaded: Any, settings: Settings, plugins: Mapping[str, Mapping[str, Any]], meter: Any = None
) -> Callable[[Any], AbstractContextManager[Any]]:
    """Binds the address, and returns what `run_forever` runs beside itself. plugins: their settings; meter: what /metrics tells. Trouble
    in words."""
    from rules_engine.service.web import address as addresses

    try:
        host, port = addresses.parse(address)
    except ValueError as error:
        raise usage(f"--web: {error}", addresses.HELP) from error
    checked = web_settings(settings)
    try:
        from rules_engine.service.web import server, start, table, view
    except ImportError as error:
        raise Trouble(f"--web needs what is not installed: {error.name or error}", f"install it with: {INSTALL}") from error
    try:
        web = start.assemble(
            checked, loaded.program.model, loaded.program.zone, loaded.project.root, _opener(settings), keys=start.keys_of(loaded.program),
            view=view.viewer(loaded.host, plugins, loaded.project.root),
        )  # fmt: skip
    except ValueError as error:
        raise Trouble(str(error), "docs/http.md has an example of each") from error
    try:
        listening = server.bind(host, port)
    except OSError as error:
        raise Trouble(f"--web: {addresses.shown(host, port)} can't be listened on: {error.strerror}", "name another port or address") from error
    if not checked.tokens and not addresses.is_loopback(host):
        output.warn("no token is set: events and contacts are taken from this machine only", "set CAMP_WEB_TOKEN for the others")

    def run(stop: Any) -> AbstractContextManager[Any]:
        routes = (table.metrics_route(web, meter.scrape),) if meter is not None else ()
        served = server.WebServer(web, listening, routes, on_death=stop)
        output.say(f"listening on {served.address}")
        return served

    return run


def _opener(settings: Settings) -> Callable[[bool], Any]:
    from rules_engine import store

    path = getattr(settings.database, "url", settings.database)
    return lambda readonly: store.open_store(path, readonly=readonly)
