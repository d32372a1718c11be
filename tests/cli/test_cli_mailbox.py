"""`camp mailbox poll`: what it tells, and how it ends."""

from __future__ import annotations


def test_poll_tells_what_came_and_puts_aside_what_it_can_not_read(shop):
    (shop.folder / "camp.toml").write_text('name = "x"\n\n[mailbox]\nfolder = "box"\n')
    (shop.folder / "contacts.jsonl").write_text('{"id": "ana", "email": "ana@example.com"}\n')
    assert shop("contact", "import", "contacts.jsonl").code == 0
    for part in ("new", "cur", "tmp"):
        (shop.folder / "box" / part).mkdir(parents=True)
    (shop.folder / "box/new/1").write_bytes(b"From: a@b\r\nSubject: hello\r\n\r\nhello")
    (shop.folder / "box/new/2").write_bytes(b"\r\n")
    dry = shop("mailbox", "poll", "--dry-run")
    assert dry.code == 6 and "2 mails: 1 aside, 1 other (nothing recorded)" in dry.out and len(list((shop.folder / "box/new").iterdir())) == 2
    done = shop("mailbox", "poll", "--json")
    assert done.code == 6 and '"aside": 1' in done.out and "it is empty" in done.out
    again = shop("mailbox", "poll")
    assert again.code == 0 and again.out.strip() == "0 mails"


def test_a_mailbox_that_can_not_be_used_is_said(shop):
    (shop.folder / "camp.toml").write_text('name = "x"\n')
    (shop.folder / "contacts.jsonl").write_text('{"id": "ana"}\n')
    shop("contact", "import", "contacts.jsonl")
    answer = shop("mailbox", "poll")
    assert answer.code == 5 and "[mailbox]" in answer.err and "Traceback" not in answer.err


def test_the_service_reads_the_mailbox_by_itself(shop):
    """`camp run` beside a Maildir: what comes in is read and moved while it runs, and it ends when it is told to."""
    import signal
    import subprocess
    import sys
    import time

    (shop.folder / "camp.toml").write_text('name = "x"\n\n[email]\nfrom = "x@shop.example"\n\n[mailbox]\nfolder = "box"\nevery = 0.1\n')
    for part in ("new", "cur", "tmp"):
        (shop.folder / "box" / part).mkdir(parents=True)
    running = subprocess.Popen([sys.executable, "-m", "rules_engine", "run"], cwd=shop.folder, stderr=subprocess.PIPE, text=True)
    try:
        (shop.folder / "box/new/1").write_bytes(b"From: a@b\r\nSubject: hello\r\n\r\nhello")
        end = time.monotonic() + 20
        while not list(shop.folder.glob("box/.CampRead/cur/*")) and time.monotonic() < end:
            time.sleep(0.05)
        assert list(shop.folder.glob("box/.CampRead/cur/*"))
        running.send_signal(signal.SIGTERM)
        _, said = running.communicate(timeout=20)
        assert running.returncode == 0, said
    finally:
        running.kill()
