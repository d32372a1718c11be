"""Options that several commands share."""

from __future__ import annotations

import click

database_option = click.option("--db", metavar="FILE", help="The database. Default: CAMP_DATABASE, or `database` in camp.toml.")
