"""`camp check`, `camp fmt`, `camp rule`: what is wrong with the campaigns, their canonical form, and what a problem means."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from rules_engine.cli import errors, output
from rules_engine.cli.errors import Trouble, usage
from rules_engine.cli.settings import Settings

FORMATS = ("human", "short", "json", "github", "sarif")
PAGES = Path(__file__).parent.parent / "model" / "rules"


@click.command("check")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(FORMATS), help="How to report. Default: human.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
def check_command(paths: tuple[Path, ...], form: str | None, as_json: bool, strict: bool) -> int:
    """Find every problem in PATHS (files or folders; default: this project), all at once.

    Names, types, templates, and campaigns that can't do what they say. Exit code 1 if there is an error.
    """
    from rules_engine.cli import render
    from rules_engine.cli.loading import check_projects

    settings = Settings({"format": "json" if as_json else form}, start=paths[0] if paths else None)
    chosen = settings.get("format")
    if chosen.value not in FORMATS:
        raise usage(f"{chosen.source}: there is no format `{chosen.value}`", f"there are {', '.join(FORMATS)}")
    found_in = check_projects(paths, settings)
    diagnostics = [item for loaded in found_in for item in loaded.diagnostics]
    sources = {path: text for loaded in found_in for path, text in loaded.texts.items()}
    # click takes the colours out again where no terminal reads, and with NO_COLOR
    text = render.render(diagnostics, sources, chosen.value, colour=chosen.value in ("human", "short"))
    if text:
        output.data(text.rstrip("\n"))
    found = [item.severity for item in diagnostics]
    number, warnings = found.count("error"), found.count("warning")
    if chosen.value in ("human", "short"):
        _sum_up(sum(len(loaded.files) for loaded in found_in), number, warnings)
    return errors.PROBLEMS if number or strict and warnings else errors.OK


def _sum_up(files: int, number: int, warnings: int) -> None:
    """One line on stderr, so that the report itself can be piped."""
    what = [output.count(number, "error")] if number else []
    what += [output.count(warnings, "warning")] if warnings else []
    output.say(f"{output.count(files, 'file')} checked: {' and '.join(what) or 'no problem'}")


# ── fmt ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@click.command("fmt")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--check", "only_check", is_flag=True, help="Change nothing; exit code 1 if a file is not in the canonical form.")
@click.option("--diff", is_flag=True, help="Change nothing; show what would change.")
def fmt_command(paths: tuple[Path, ...], only_check: bool, diff: bool) -> int:
    """Write PATHS (files or folders; default: this project; - for stdin) in the canonical form.

    Comments and meaning stay. A file with a syntax error is left as it is.
    """
    if [str(path) for path in paths] == ["-"]:
        return _fmt_stdin()
    from rules_engine.cli.loading import camp_files, shown

    changed, broken = [], 0
    for path in camp_files(paths):
        try:
            before = path.read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise Trouble(f"{path}: the file is not in UTF-8", "save it as UTF-8") from error
        after = _formatted(before, shown(path))
        if after is None:
            broken += 1
        elif after != before:
            changed.append(path)
            if diff:
                output.data("".join(_diff(before, after, shown(path))).rstrip("\n"))
            elif only_check:
                output.data(shown(path))
            else:
                _write(path, after)
                output.data(shown(path))
    verb = "would change" if only_check or diff else "changed"
    output.say(f"{output.count(len(changed), 'file')} {verb}" + (f", {broken:,} with errors left as they are" if broken else ""))
    return errors.PROBLEMS if broken or (only_check or diff) and changed else errors.OK


def _fmt_stdin() -> int:
    import sys

    text = sys.stdin.read()
    after = _formatted(text, "<stdin>")
    if after is None:
        click.echo(text, nl=False)
        return errors.PROBLEMS
    click.echo(after, nl=False)
    return errors.OK


def _formatted(text: str, path: str) -> str | None:
    """The canonical text; None, after telling why, where the syntax is wrong."""
    from rules_engine.cli import render
    from rules_engine.syntax.printer import format_text

    after, diagnostics = format_text(text, path)
    if any(item.severity == "error" for item in diagnostics):
        output.say(render.render(diagnostics, {path: text}, "short").rstrip("\n"))
        return None
    return after


def _diff(before: str, after: str, path: str) -> Iterator[str]:
    from difflib import unified_diff

    yield from unified_diff(before.splitlines(keepends=True), after.splitlines(keepends=True), path, f"{path} (formatted)")


def _write(path: Path, text: str) -> None:
    """Replaces the file at once: a crash leaves the old one or the new one, never half of it."""
    import os

    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_bytes(text.encode("utf-8"))
        os.chmod(beside, path.stat().st_mode)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


# ── rule ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@click.command("rule")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each problem.")
def rule_command(name: str | None, as_json: bool) -> None:
    """Explain the problem NAME that `camp check` reports: what it is, why it matters, bad and good. Without NAME: list all."""
    pages = {path.stem: path for path in sorted(PAGES.glob("*.md"))}
    if name is None:
        records: list[dict[str, Any]] = [{"rule": stem, "summary": _summary(path)} for stem, path in pages.items()]
        if as_json:
            output.json_lines(records)
        else:
            output.table(("problem", "what it is"), [(item["rule"], item["summary"]) for item in records])
        return
    if name not in pages:
        from difflib import get_close_matches

        near = get_close_matches(name, pages, n=1)
        raise Trouble(
            f"there is no problem `{name}`", f"did you mean `{near[0]}`?" if near else "`camp rule` lists them", errors.USAGE
        )
    text = pages[name].read_text(encoding="utf-8")
    if as_json:
        output.json_document({"rule": name, "summary": _summary(pages[name]), "page": text})
    else:
        output.data(text.rstrip("\n"))


def _summary(path: Path) -> str:
    """The first line of the page that is neither its title nor empty."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            return line.strip()
    return ""
