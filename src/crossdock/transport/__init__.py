"""HTTP/1.1 for blobs and small requests: sockets, TLS and buffers. It knows nothing of OCI.

A ``BufferedProtocol`` receives body bytes directly into the caller's memory (a slot of the arena), and raw
writes send them from that same memory. `base` holds the interface; `client.HttpClient` implements it.
"""
