"""18 months of a record shop, from the raw data to the last mail: `python campaigns/cdnow/run.py`.

Prepares the input, imports it, and plays it through the campaigns with the embedded database; every e-mail becomes a file in outbox/.
The same as these commands, in this folder:

    python prepare.py
    camp contact import contacts.jsonl
    camp event import events.jsonl
    camp run --until 1998-07-01

Run it again, and nothing happens twice: what was imported and sent is known. `--fresh` forgets the last run (camp.db and outbox/) and
begins anew, for instance after you have changed a campaign.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import prepare

HERE = Path(__file__).resolve().parent
UNTIL = "1998-07-01"


def camp(*arguments: str) -> None:
    """One command of Camp in this folder; its failure is ours."""
    print(f"\n$ camp {' '.join(arguments)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "rules_engine", *arguments], cwd=HERE, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def forget() -> None:
    """Removes what the last run left in this folder."""
    for path in (HERE / "camp.db", HERE / "camp.db-wal", HERE / "camp.db-shm"):
        path.unlink(missing_ok=True)
    shutil.rmtree(HERE / "outbox", ignore_errors=True)


def main(arguments: list[str]) -> None:
    if arguments not in ([], ["--fresh"]):
        raise SystemExit(__doc__)
    if arguments:
        forget()
    _, _, people, orders = prepare.write()
    print(f"{people:,} customers and {orders:,} orders, made from {prepare.SOURCE.relative_to(HERE)}")
    camp("contact", "import", "contacts.jsonl")
    camp("event", "import", "events.jsonl")
    camp("run", "--until", UNTIL)
    camp("timeline", "22355")
    print(f"\nThe mails are in {HERE / 'outbox'}. Ask about any customer there: cd {HERE} && camp why 22355")


if __name__ == "__main__":
    main(sys.argv[1:])
