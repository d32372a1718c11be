"""Every bound of Camp, in one place. Each says what it protects, so that it can be changed with reason."""

MAX_SOURCE_BYTES = 1_000_000      # one .camp file; larger is a data file by mistake
MAX_PROJECT_FILES = 10_000        # .camp files below one camp.toml
MAX_NESTING = 60                  # blocks or brackets inside one another; no person reads deeper
MAX_DIAGNOSTICS_PER_FILE = 200    # more is one cause repeated
MAX_NAME_LENGTH = 100             # characters of a name in a .camp file
MAX_TEXT_LENGTH = 100_000         # characters of one text literal, or of one attribute of a contact
MAX_FIRINGS = 1_000               # rule firings and steps in one tick of one contact; above it the event is set aside
MAX_EMIT_DEPTH = 20               # events that caused one another within one tick
MAX_INSTANCES = 1_000             # active instances of one contact
MAX_EVENT_BYTES = 100_000         # one event's JSON
MAX_DATA_NESTING = 100            # lists and maps inside one another in a record; JSON writers and recursive walks give up beyond
MAX_CONTACT_BYTES = 1_000_000     # one contact's state as JSON
MAX_DURATION_YEARS = 100          # a longer delay is a typing mistake
MAX_RENDERED_BYTES = 1_000_000    # one rendered template
MAX_ATTEMPTS = 8                  # hand-overs of one effect before it is a dead letter
BUCKETS = 10_000                  # resolution of splits and holdouts (LANGUAGE.md: hash in 10,000)
MAX_PLUGIN_FRAME = 8_000_000      # bytes of one request to a third-party plugin's process
MAX_PLUGIN_ANSWER = 2_000_000     # bytes of one answer of it; more is a flood, and its process ends
MAX_PLUGIN_CHATTER = 64_000       # bytes that it prints during one call and that are shown
MAX_PLUGIN_MEMORY = 2_000_000_000  # bytes of data of its process; beyond it Python raises MemoryError there

MAX_BODY_BYTES = 5_000_000        # one HTTP request with events or contacts, unpacked
MAX_ITEMS = 10_000                # events or contacts in one HTTP request
MAX_WEBHOOK_BYTES = 300_000       # one webhook: read before its signature can be checked
MAX_FORM_BYTES = 100_000          # one form, unsubscribe or preference post
MAX_FORM_FIELDS = 100             # fields of one form
MAX_BEACON_BYTES = 10_000         # what the script of a page sends
MAX_BODY_SECONDS = 20             # a client that sends its body more slowly is cut off
MAX_HEAD_SECONDS = 15             # as are a request's headers
MAX_HEAD_BYTES = 64_000           # of all headers of a request
MAX_CONNECTIONS = 1_000           # HTTP connections at once
MAX_QUEUE = 20_000                # arrivals that wait for the writer; above it 503
MAX_BACKLOG = 500_000             # rows of the log that the engine has not read yet; above it 503
MAX_KEPT_VISITS = 10_000          # opens and clicks kept in memory while the store can't be written
MAX_ADDRESSES = 50_000            # client addresses whose rate is remembered
