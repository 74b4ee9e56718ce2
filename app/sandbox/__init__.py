"""A stand-in mipOS for development, demonstrations and tests: a real HTTP server that behaves as the documents say."""
