"""``python -m ociappr``."""

from __future__ import annotations

from ociappr.cli.main import main

if __name__ == "__main__":
    main()
