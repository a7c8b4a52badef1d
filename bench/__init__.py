"""Benches and the demo: what chunkstore costs and saves, measured and printed."""
