"""A PostgreSQL server of the tests' own: Debian's programs, a temporary folder, a free port, a user that is not root; stopped at exit.

`skip_reason()` says in one line why there is none; who skips for it says so loudly.
"""

from __future__ import annotations

import atexit
import functools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

LOUD = "NO POSTGRESQL SERVER ON THIS MACHINE, SO NOTHING OF THE SERVER STORE IS TESTED (apt-get install postgresql): "


def programs() -> Path | None:
    """The folder with initdb and pg_ctl: the newest of Debian's, or that of the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3].split(".")[0]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).resolve().parent if on_path else None


def skip_reason() -> str:
    """Why there can be no server here; empty if there can."""
    if programs() is None:
        return LOUD + "no initdb"
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        return LOUD + str(error)
    return ""


def user() -> str | None:
    """Whom the server runs as: PostgreSQL refuses root."""
    if os.geteuid():
        return None
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
            return name
        except KeyError:
            continue
    return None


class Server:
    """One server. fsync off is only for tests in which nobody crashes."""

    def __init__(self, fsync: bool) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="camp-pg-"))
        self.folder.chmod(0o755)
        self.data = self.folder / "data"
        self._user = user()
        if self._user:
            shutil.chown(self.folder, self._user)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._run("initdb", "-D", self.data, "-U", "camp", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-instructions", *([] if fsync else ["-N"]))
        settings = {
            "listen_addresses": "'127.0.0.1'", "port": self.port, "unix_socket_directories": f"'{self.folder}'", "max_connections": 60,
            "shared_buffers": "'128MB'", "max_wal_size": "'4GB'", "log_min_messages": "fatal",
        }  # fmt: skip
        if not fsync:
            settings |= {"fsync": "off", "full_page_writes": "off"}
        with (self.data / "postgresql.conf").open("a") as stream:
            stream.writelines(f"{name} = {value}\n" for name, value in settings.items())
        atexit.register(self.stop)
        self._control("start")

    def url(self, database: str) -> str:
        """The address of a database."""
        return f"postgresql://camp@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple]:
        """One statement in a session of its own."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def database(self, name: str) -> str:
        """A new, empty database; its address."""
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def restart(self, mode: str = "immediate") -> None:
        """Stops without a checkpoint, as a crash does, and starts again."""
        self._control("restart", "-m", mode)

    def stop(self) -> None:
        """Ends the server and removes what it kept."""
        if self.data.exists():
            self._control("stop", "-m", "immediate", check=False)
            shutil.rmtree(self.folder, ignore_errors=True)

    def _control(self, *words: str, check: bool = True) -> None:
        self._run("pg_ctl", "-D", self.data, "-l", self.folder / "log", "-w", "-t", "60", *words, check=check)

    def _run(self, program: str, *arguments: object, check: bool = True) -> None:
        path = programs()
        assert path is not None
        done = subprocess.run(
            [path / program, *map(str, arguments)], user=self._user, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False, start_new_session=True,
        )  # fmt: skip
        if check and done.returncode:
            log = self.folder / "log"
            raise RuntimeError(f"{program} failed: {done.stdout}{log.read_text() if log.exists() else ''}")


@functools.cache
def server(fsync: bool = False) -> Server:
    """The server of this process."""
    return Server(fsync)
