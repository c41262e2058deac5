"""`python -m carver`: the command, where no script was installed."""

from __future__ import annotations

import sys

from carver.cli import main

if __name__ == "__main__":
    sys.exit(main())
