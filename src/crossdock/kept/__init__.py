"""State that a run keeps on disk for the next one: a journal of open uploads, a spool of source bytes.

`Journal` and `Spool` never fail a copy. Both work the same way (`keeper`): the first large blob opens them; a
copy claims a blob's entry, which no other copy can use until it is closed; trouble is reported once and
switches them off; entries that are too old are removed when they are opened. `JournalDatabase` and
`SpoolFolder` below them raise instead, for ``crossdock state``. No network, no asyncio.
"""
