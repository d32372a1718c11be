"""Facts in over HTTP: events and contacts, signed webhooks, reports of providers, page visits, forms, downloads, links of messages.

An event loop of its own in a thread beside the service's. Handlers read, check and answer; one writer thread commits what came in
groups (`writer`), one reader thread asks the store (`reader`). Nothing here decides anything about a campaign: all that a request
does is one or a few rows of the log. May import Starlette and uvicorn (extra `web`), `service.ingest`, the store's port, `links`.

`table` names every endpoint once: routing and the OpenAPI document are made of it.
"""
