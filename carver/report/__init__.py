"""Reports: views of one Recovery record, a module a kind."""
