"""A small IMAP server (RFC 3501) on the loopback: one mailbox, flags, keywords, folders. Enough for imaplib to talk to in earnest."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import contextmanager


class Mail:
    def __init__(self, uid, data):
        self.uid, self.data, self.flags = uid, data, set()


class Imap:
    """`mails`: the inbox. `folders`: name -> what was moved there. `hang`, `drop`: commands that it treats so."""

    def __init__(self, *mails, capabilities="MOVE UIDPLUS", keywords=True, hang=(), drop=(), refuse=()):
        self.mails = [Mail(number, data) for number, data in enumerate(mails, 1)]
        self.capabilities, self.keywords, self.folders, self.said = capabilities, keywords, {}, []
        self.hang, self.drop, self.refuse = set(hang), set(drop), set(refuse)

    def add(self, data):
        self.mails.append(Mail(max((mail.uid for mail in self.mails), default=0) + 1, data))

    def talk(self, line):
        stream = line.makefile("rwb")
        stream.write(b"* OK ready\r\n")
        stream.flush()
        for raw in stream:
            tag, _, rest = raw.decode("latin-1").strip().partition(" ")
            command, _, arguments = rest.partition(" ")
            if command.upper() == "UID":
                command, _, arguments = arguments.partition(" ")
            command = command.upper()
            self.said.append(command)
            if command in self.drop:
                return
            if command in self.hang:
                threading.Event().wait(3)
                return
            if command in self.refuse:
                stream.write(f"{tag} NO not today\r\n".encode())
            else:
                stream.write(self.answer(command, arguments) + f"{tag} OK done\r\n".encode())
            stream.flush()
            if command == "LOGOUT":
                return

    def answer(self, command, arguments):
        if command == "CAPABILITY":
            return f"* CAPABILITY IMAP4rev1 {self.capabilities}\r\n".encode()
        if command == "SELECT":
            flags = r"\Deleted \Seen" + (r" \*" if self.keywords else "")
            return f"* {len(self.mails)} EXISTS\r\n* OK [PERMANENTFLAGS ({flags})] ok\r\n".encode()
        if command == "SEARCH":
            unwanted = set(re.findall(r"UNKEYWORD (\S+)", arguments)) | {"\\Deleted"}
            return b"* SEARCH " + " ".join(str(mail.uid) for mail in self.mails if not mail.flags & unwanted).encode() + b"\r\n"
        uid, _, more = arguments.partition(" ")
        mail = next((mail for mail in self.mails if str(mail.uid) == uid), None)
        if mail is None:
            return b""
        if command == "FETCH":
            most = int(re.search(r"<0\.(\d+)>", more)[1])
            part = mail.data[:most]
            return b"* 1 FETCH (UID %d BODY[]<0> {%d}\r\n%b)\r\n" % (mail.uid, len(part), part)
        if command == "STORE":
            mail.flags |= set(re.search(r"\((.*)\)", more)[1].split())
        if command in ("MOVE", "COPY"):
            self.folders.setdefault(more.strip('"'), []).append(mail)
        if command == "MOVE" or command == "EXPUNGE":
            self.mails.remove(mail)
        return b""


@contextmanager
def imap(server, context=None):
    """The server's port while it serves; `context`: TLS from the first byte."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept():
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(line,), daemon=True).start()

    def serve(line):
        try:
            with line if context is None else context.wrap_socket(line, server_side=True) as open_line:
                server.talk(open_line)
        except OSError:
            pass

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()
