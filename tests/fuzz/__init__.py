"""Fuzz: mutated files of every format; no crash, no hang, bounded time and memory."""
