"""Helpers shipped for tests: the backend suite, fault backends, servers to test against."""
