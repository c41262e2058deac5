"""Carver: the engine (scan, judge, claim, extract, report) and the command line."""

__version__ = "0.1.0"
