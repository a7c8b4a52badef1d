"""The command line of chunkstore."""
