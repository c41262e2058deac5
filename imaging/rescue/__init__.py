"""The rescue: read a failing drive, the good parts first, as GNU ddrescue's manual describes it."""
