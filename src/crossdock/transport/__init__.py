"""HTTP/1.1 for blobs and small requests: sockets, TLS and buffers. Nothing of OCI is known here.

Body bytes land by a ``BufferedProtocol`` straight in memory that the caller names (a slot of the arena) and
leave by raw writes of that same memory. `base` holds the interface; `client.HttpClient` implements it.
"""
