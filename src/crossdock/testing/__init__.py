"""Parts for tests and the demo, ours and other people's: seeded images, a token server."""
