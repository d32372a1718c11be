"""The first contact: help, versions, misspelt commands, `camp init`, settings, and the time that all this takes."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from rules_engine.cli.main import COMMANDS

HEAVY = (
    "lark",
    "peewee",
    "jinja2",
    "orjson",
    "pluggy",
    "schedule",
    "sqlite3",
    "rules_engine.engine",
    "rules_engine.syntax",
    "rules_engine.model",
    "rules_engine.plan",
    "rules_engine.store",
    "rules_engine.service",
    "rules_engine.host",
    "asyncio",
    "difflib",
    "zoneinfo",
)


def _imported(code: str, folder: Path) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print('\\n'.join(sys.modules))"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines())


@pytest.mark.parametrize(
    "command", ["--help", "", "check --help", "outbox --help", "outbox list --help", "run --help", "simulate --help"]
)
def test_help_loads_nothing_heavy(empty, command):
    code = f"import sys\ntry:\n    from rules_engine.cli.main import cli; cli.main({command.split()!r})\nexcept SystemExit: pass"
    loaded = _imported(code, empty.folder)
    assert not [name for name in HEAVY if name in loaded]


def test_help_of_the_whole_loads_no_command(empty):
    loaded = _imported(
        "try:\n    from rules_engine.cli.main import cli; cli.main(['--help'])\nexcept SystemExit: pass", empty.folder
    )
    assert {name for name in loaded if name.startswith("rules_engine.cli.")} <= {
        "rules_engine.cli.main",
        "rules_engine.cli.errors",
    }


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help(empty, name):
    answer = empty(name, "--help")
    assert answer.code == 0
    assert answer.out.startswith(f"Usage: camp {name}")


def test_no_command_shows_help(empty):
    answer = empty()
    assert (answer.code, answer.err) == (0, "")
    assert "simulate  Play events" in answer.out


def test_version(empty):
    answer = empty("--version")
    assert answer.code == 0
    assert answer.out.startswith("camp ")


@pytest.mark.parametrize(
    "wrong, meant", [("chek", "`check`"), ("SIMULATE", "`simulate`"), ("Test", "`test`"), ("tset", "`test`")]
)
def test_a_misspelt_command_is_suggested(empty, wrong, meant):
    answer = empty(wrong)
    assert answer.code == 2
    assert answer.err == (
        f"error: there is no command `camp {wrong}`; did you mean {meant}?\n  help: `camp --help` shows how it is written\n"
    )
    assert answer.out == ""


def test_a_misspelt_subcommand_is_suggested(empty):
    answer = empty("outbox", "lst")
    assert answer.code == 2
    assert "there is no command `camp outbox lst`; did you mean `list`?" in answer.err


def test_a_misspelt_option_is_suggested(empty):
    answer = empty("check", "--fromat", "json")
    assert answer.code == 2
    assert "--format" in answer.err
    assert "`camp check --help` shows how it is written" in answer.err


def test_a_missing_argument_is_told(empty):
    answer = empty("why")
    assert answer.code == 2
    assert "missing argument 'CONTACT'" in answer.err


# ── init ──


def test_init_makes_a_project_and_tells_what_is_next(empty):
    answer = empty("init", "shop")
    assert (answer.code, answer.err) == (0, "")
    assert "camp test" in answer.out
    assert "cd shop" in answer.out
    folder = empty.folder / "shop"
    assert tomllib.loads((folder / "camp.toml").read_text())["name"] == "shop"
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {
        "camp.toml",
        "campaigns/welcome.camp",
        "templates/welcome.txt",
        "samples/contacts.jsonl",
        "samples/events.jsonl",
        ".gitignore",
    } <= names


def test_init_overwrites_nothing(shop):
    file = shop.folder / "campaigns" / "welcome.camp"
    file.write_text("# mine\n")
    (shop.folder / "templates" / "welcome.txt").unlink()
    answer = shop("init", ".")
    assert answer.code == 4
    assert "is there already" in answer.err
    assert "nothing was written" in answer.err
    assert file.read_text() == "# mine\n"
    assert not (shop.folder / "templates" / "welcome.txt").exists()


def test_init_inside_a_repository_keeps_its_gitignore(empty):
    (empty.folder / ".gitignore").write_text("*.log\n")
    assert empty("init").code == 0
    assert (empty.folder / ".gitignore").read_text() == "*.log\n"


def test_init_on_a_file_is_refused(empty):
    (empty.folder / "notes").write_text("")
    answer = empty("init", "notes")
    assert answer.code == 4
    assert "notes is a file" in answer.err


def test_init_with_an_odd_name_makes_valid_settings(empty):
    assert empty("init", 'my "shop" \\ x').code == 0
    assert tomllib.loads((empty.folder / 'my "shop" \\ x' / "camp.toml").read_text())["name"] == 'my "shop" \\ x'


def test_init_with_an_unknown_template(empty):
    answer = empty("init", "shop", "--template", "nothing")
    assert answer.code == 2
    assert "there is no template `nothing`" in answer.err
    assert "welcome" in answer.err


# ── settings ──


def _settings(camp, *arguments, env=None):
    answer = camp("config", "show", "--json", *arguments, env=env)
    assert answer.code == 0, answer
    return {item["name"]: item for item in map(json.loads, answer.out.splitlines())}


def test_settings_say_where_they_come_from(shop):
    found = _settings(shop)
    assert found["database"] == {"name": "database", "value": "camp.db", "source": str(shop.folder / "camp.toml")}
    assert found["format"] == {"name": "format", "value": "human", "source": "default"}
    assert found["email.transport"]["value"] == "folder"


def test_flag_beats_environment_beats_file_beats_user_beats_default(shop, tmp_path):
    user = tmp_path / "config" / "camp" / "config.toml"
    user.parent.mkdir(parents=True)
    user.write_text('database = "user.db"\nformat = "short"\n')
    env = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    assert _settings(shop, env=env)["database"]["value"] == "camp.db"
    assert _settings(shop, env=env)["format"] == {"name": "format", "value": "short", "source": str(user)}
    env["CAMP_DATABASE"] = "env.db"
    assert _settings(shop, env=env)["database"] == {"name": "database", "value": "env.db", "source": "CAMP_DATABASE"}
    assert _settings(shop, "--db", "flag.db", env=env)["database"] == {"name": "database", "value": "flag.db", "source": "--db"}


def test_settings_are_found_upward(shop, camp_in):
    assert _settings(camp_in(shop.folder / "campaigns"))["name"]["source"] == str(shop.folder / "camp.toml")


def test_secrets_are_not_shown(shop):
    with open(shop.folder / "camp.toml", "a") as file:
        file.write('password = "hunter2"\n')
    answer = shop("config", "show")
    assert "hunter2" not in answer.out
    assert "(hidden)" in answer.out


def test_secrets_in_headers_and_addresses_are_not_shown(shop):
    with open(shop.folder / "camp.toml", "a") as file:
        file.write('[webhook]\nurl = "https://shop:hunter2@crm.example/x"\n[webhook.headers]\nAuthorization = "Bearer hunter2"\nCookie = "hunter2"\n')
    for answer in (shop("config", "show"), shop("config", "show", "--json"), shop("doctor")):
        assert "hunter2" not in answer.out + answer.err
    assert "https://(hidden)@crm.example/x" in shop("config", "show").out


def test_plugin_settings_from_the_environment_win(shop):
    found = _settings(shop, env={"CAMP_EMAIL_PASSWORD": "hunter2", "CAMP_EMAIL_TRANSPORT": "smtp"})
    assert found["email.password"] == {"name": "email.password", "value": "(hidden)", "source": "CAMP_EMAIL_PASSWORD"}
    assert found["email.transport"] == {"name": "email.transport", "value": "smtp", "source": "CAMP_EMAIL_TRANSPORT"}


def test_plugins_get_their_tables_with_the_environment_over_them(shop, monkeypatch):
    from rules_engine.cli.settings import Settings

    with open(shop.folder / "camp.toml", "a") as file:
        file.write("port = 25\nfsync = true\n")
    monkeypatch.setenv("CAMP_EMAIL_PORT", "587")
    monkeypatch.setenv("CAMP_EMAIL_FSYNC", "no")
    monkeypatch.setenv("CAMP_EMAIL_PASSWORD", "123")
    table = Settings(start=shop.folder).tables(["email", "sms"])["email"]
    assert (table["transport"], table["port"], table["fsync"], table["password"]) == ("folder", 587, False, "123")


def test_broken_settings_are_told_with_their_place(shop):
    (shop.folder / "camp.toml").write_text("name = \n")
    answer = shop("config", "show")
    assert answer.code == 5
    assert "camp.toml: invalid value (at line 1, column 8)" in answer.err


def test_completion(empty):
    answer = empty("completion", "bash")
    assert answer.code == 0
    assert "_CAMP_COMPLETE=bash_source" in answer.out
    assert empty("completion", "tcsh").code == 2


def test_completion_knows_the_commands(empty):
    done = empty.process(env={"_CAMP_COMPLETE": "bash_complete", "COMP_WORDS": "camp sim", "COMP_CWORD": "1"})
    assert "simulate" in done.out


# ── endings ──


def test_an_internal_error_is_short_and_70(empty, monkeypatch):
    monkeypatch.setattr("rules_engine.cli.settings.Settings.all", lambda self: 1 / 0)
    answer = empty("config", "show")
    assert answer.code == 70
    assert "Camp failed: ZeroDivisionError: division by zero" in answer.err
    assert "CAMP_DEBUG=1" in answer.err
    assert "Traceback" not in answer.err
    assert "Traceback" in empty("config", "show", env={"CAMP_DEBUG": "1"}).err


def test_ctrl_c_is_130(empty, monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr("rules_engine.cli.settings.Settings.all", interrupt)
    answer = empty("config", "show")
    assert answer.code == 130
    assert "Traceback" not in answer.err


def test_a_closed_pipe_is_quiet(shop):
    command = f"{sys.executable} -m rules_engine plugin show email | head -n 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], cwd=shop.folder, capture_output=True, text=True)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


def test_no_colour_into_a_pipe(empty):
    assert "\x1b" not in empty.process("--help").out
    assert "\x1b" not in empty.process("chek").err
