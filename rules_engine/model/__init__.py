"""Nodes to meaning, and everything that can be said of it before it runs.

`meaning` names what a project's files declare (`build`) and types its expressions; the compiler builds on it. `checks.check` reports all
problems at once, as diagnostics; `project` finds a project's files and settings; `templates` reads message templates; `rules/` has a page
for each diagnostic. May import: diagnostics, limits, actions, syntax.nodes, and engine.calendar for time zones. Nothing here renders,
and only `project` and `templates` read files.
"""
