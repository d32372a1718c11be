"""The few pages that people see. Everything is escaped; no script, nothing from elsewhere, no frame, no referrer, no cache."""

from __future__ import annotations

import base64
import hashlib
from html import escape

from starlette.responses import HTMLResponse, Response

STYLE = (
    "body{font:1.1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:3rem auto;padding:0 1rem;color:#222;background:#fff}"
    "button{font:inherit;padding:.6rem 1.2rem;border:0;border-radius:.3rem;background:#1a5fb4;color:#fff;cursor:pointer}"
    "label{display:block;padding:.6rem 0}input{width:1.1rem;height:1.1rem;vertical-align:-.15rem}"
    "button:focus-visible,input:focus-visible{outline:3px solid #f5c211}"
    "@media(prefers-color-scheme:dark){body{color:#eee;background:#1e1e1e}}"
)
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
CSP = f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
HEADERS = {
    "Content-Security-Policy": CSP,
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex",
}


def page(title: str, body: str, status: int = 200) -> Response:
    """A whole page; body: HTML made by the functions below."""
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main><h1>{escape(title)}</h1>{body}</main></body></html>"
    )
    return HTMLResponse(text, status, HEADERS)


def paragraph(text: str) -> str:
    """A text."""
    return f"<p>{escape(text)}</p>"


def form(body: str, button: str) -> str:
    """A form that posts to the page's own address."""
    return f'<form method="post">{body}<p><button type="submit">{escape(button)}</button></p></form>'


def hidden(name: str, value: str) -> str:
    """A field that nobody sees."""
    return f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'


def checkbox(name: str, label: str, checked: bool) -> str:
    """One choice."""
    return f'<label><input type="checkbox" name="{escape(name)}" value="yes"{" checked" if checked else ""}> {escape(label)}</label>'


def link(target: str, text: str) -> str:
    """A link to a place of ours."""
    return f'<p><a href="{escape(target)}">{escape(text)}</a></p>'


def not_found() -> Response:
    """For a link that nobody signed: it says nothing, and leads nowhere."""
    return page("Not found", paragraph("This link is not valid. Perhaps it was cut off: open it from the message again."), 404)
