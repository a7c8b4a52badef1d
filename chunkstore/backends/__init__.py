"""Backends: where bytes are kept. Each knows keys and bytes only; `base` has the contract."""
