"""The engine: walks the graph, moves blobs through the arena, writes the tag last. Knows only `content`."""
