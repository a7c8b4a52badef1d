"""The HTTP API of chunkstore."""
