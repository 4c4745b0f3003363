"""``python -m crossdock``."""

from crossdock.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
