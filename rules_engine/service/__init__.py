"""What drives the engine: facts in (`ingest`), log to decisions (`pump`), effects out (`dispatch`), and the loop around them.

May import the engine through its door, the store's port, the plugin host's records and the clock; never the terminal. Nothing
here decides anything about a campaign.
"""
