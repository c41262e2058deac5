"""Identify: what the recovered files are. Names, families, shards of one model, and what small files tell of others."""
