"""Families: which tensor names tell which family of models. A subject is a module; `rule.py` says how a rule reads."""
