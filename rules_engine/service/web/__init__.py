"""Facts in over HTTP, and the pages that a recipient reaches from a message: the only place of Camp that knows Starlette.

May import the store, ingest and links; never the engine's inside, a plugin or the terminal. Needs the extra `web`.
"""
