"""`camp test`: runs TEST blocks and shows, for each failure, what was expected, what happened instead, and why."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from rules_engine.cli import errors, output
from rules_engine.cli.settings import Settings


@click.command("test")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("-k", "wanted", metavar="TEXT", help="Only tests whose name or file has this text.")
@click.option(
    "--junit", type=click.Path(path_type=Path, dir_okay=False), help="Also write the results as JUnit XML to this file."
)
@click.option("--cov", is_flag=True, help="Show which steps no test reaches.")
@click.option("--fail-under", type=click.FloatRange(0, 100), help="With --cov: fail below this percentage.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each test.")
def test_command(
    paths: tuple[Path, ...], wanted: str | None, junit: Path | None, cov: bool, fail_under: float | None, as_json: bool
) -> int:
    """Run the TEST blocks of PATHS (default: this project), in virtual time.

    A failure shows the line of the EXPECT, what came near, and everything that happened to the contact, in the contact's time
    zone.
    """
    from rules_engine.cli.loading import load_projects
    from rules_engine.testing.runner import coverage, run_tests

    loads = load_projects(paths, Settings(start=paths[0] if paths else None))
    found = [(loaded, [test for test in _below(loaded.model.tests, paths and group) if _named(test, wanted)]) for group, loaded in loads]
    number = sum(len(tests) for _, tests in found)
    if not number:
        return _nothing([test for _, loaded in loads for test in loaded.model.tests], wanted)
    sources = {path: text for loaded, _ in found for path, text in loaded.sources.items()}
    running = ((loaded, result) for loaded, tests in found for result in run_tests(loaded.program, tests))
    done = list(output.progress(running, number, "testing"))
    results = [result for _, result in done]
    if as_json:
        output.json_lines(_record(result, sources) for result in results)
    else:
        _show(results, sources)
    if junit is not None:
        from rules_engine.cli.junit import write

        write(junit, results, sources)
    low = False
    if cov or fail_under is not None:
        covered = [line for loaded, _ in found for line in coverage(loaded.program, [result for of, result in done if of is loaded])]
        low = _show_coverage(covered, fail_under, as_json)
    return errors.PROBLEMS if low or not all(result.passed for result in results) else errors.OK


def _below(tests: Iterable[Any], paths: Iterable[Path]) -> list[Any]:
    """Tests that stand in the files or folders named; a project is loaded as a whole, so that names mean what they mean."""
    roots = [path.resolve() for path in paths]
    return [test for test in tests if not roots or any(Path(test.span.path).resolve().is_relative_to(root) for root in roots)]


def _named(test: Any, wanted: str | None) -> bool:
    return wanted is None or wanted.casefold() in test.name.casefold() or wanted.casefold() in test.span.path.casefold()


def _nothing(tests: list[Any], wanted: str | None) -> int:
    if wanted is not None and tests:
        raise errors.usage(
            f"no test has `{wanted}` in its name",
            f"there are {output.count(len(tests), 'test')}; leave -k out to run them all",
        )
    output.say('there is no TEST in these files; a test begins with TEST "what should be"')
    return errors.OK


# ── showing ──


def _show(results: list[Any], sources: Any) -> None:
    by_path: dict[str, list[Any]] = {}
    for result in results:
        by_path.setdefault(result.span.path, []).append(result)
    for path, group in by_path.items():
        output.data(click.style(path, bold=True))
        for result in group:
            mark = click.style("ok    ", fg="green") if result.passed else click.style("FAILED", fg="red", bold=True)
            output.data(f"  {mark} {result.name}")
    for result in results:
        if not result.passed:
            _show_failure(result, sources)
    failed = sum(not result.passed for result in results)
    summary = f"{output.count(len(results) - failed, 'test')} passed" + (f", {failed:,} failed" if failed else "")
    output.data("\n" + click.style(summary, fg="red" if failed else "green", bold=True))


def _show_failure(result: Any, sources: Any) -> None:
    """The first failure in full: those after it are often its consequences, so they get a line each."""
    first, *others = result.failures
    output.data("\n" + click.style(f"FAILED {result.name}", fg="red", bold=True))
    for line in _excerpt(first.span, sources):
        output.data(line)
    output.data(f"  {click.style('expected:', bold=True)} {output.clean(first.message)}")
    for note in first.notes:
        output.data(f"  {click.style('but:', bold=True)} {output.clean(note)}")
    if first.timeline:
        output.data(f"  {click.style('what happened:', bold=True)}")
        for line in first.timeline:
            output.data(f"    {output.clean(line)}")
    elif not first.notes:
        output.data("  nothing happened to the contact")
    for other in others:
        path, number, _ = place(other.span, sources)
        output.data(f"  also {path}:{number}: {output.clean(other.message)}")


def place(span: Any, sources: Any) -> tuple[str, int, int]:
    """(path, line, column) of a span."""
    from rules_engine.diagnostics import Source

    line, column = Source(span.path, sources.get(span.path, "")).place(span.start)
    return span.path, line, column


def _excerpt(span: Any, sources: Any) -> list[str]:
    """The line of the file with a caret under the statement."""
    from rules_engine.diagnostics import Source

    source = Source(span.path, sources.get(span.path, ""))
    path, line, column = place(span, sources)
    text = source.line(line)
    width = max(1, min(span.end - span.start, len(text) - column + 1))
    gutter = " " * len(str(line))
    return [
        f"  {gutter}--> {path}:{line}:{column}",
        f"  {line} | {text}",
        f"  {gutter} | {' ' * (column - 1)}{click.style('^' * width, fg='red')}",
    ]


def _record(result: Any, sources: Any) -> dict[str, Any]:
    failures = []
    for failure in result.failures:
        path, line, column = place(failure.span, sources)
        failures.append(
            {
                "path": path,
                "line": line,
                "column": column,
                "message": failure.message,
                "notes": list(failure.notes),
                "timeline": list(failure.timeline),
            }
        )
    path, number, _ = place(result.span, sources)
    return {"test": result.name, "path": path, "line": number, "passed": result.passed, "failures": failures}


def _show_coverage(covered: Any, fail_under: float | None, as_json: bool) -> bool:
    """The table of steps reached; True where it is below the bound."""
    from rules_engine.testing.runner import percent

    share = percent(covered)
    if as_json:
        output.json_lines(
            [
                {
                    "coverage": share,
                    "rulesets": [{"name": item.name, "steps": len(item.steps), "missed": list(item.missed)} for item in covered],
                }
            ]
        )
    else:
        output.data()
        rows = [
            (item.name, len(item.steps), len(item.missed), f"{percent([item]):.0f} %", ", ".join(item.missed)) for item in covered
        ]
        output.table(("coverage", "steps", "missed", "reached", "steps that no test reaches"), rows, right=[1, 2, 3])
        output.data(f"\n{share:.1f} % of all steps are reached by a test")
    if fail_under is not None and share < fail_under:
        output.say(f"{share:.1f} % is below --fail-under {fail_under:g}")
        return True
    return False
