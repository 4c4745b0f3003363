"""What open uploads have reached, on disk: a killed copy goes on from there. No network, no asyncio.

`Journal` is what a copy uses and never fails it; `JournalDatabase` below it says what is wrong. SQLite in
WAL mode with ``synchronous=NORMAL``: a row survives SIGKILL from the moment its call returned. A power loss
may take the last rows back to older ones, which is safe: a registry that holds more than a row says is
believed.
"""
