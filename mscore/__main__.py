"""``python -m mscore``."""

from mscore.cli import main

if __name__ == "__main__":
    main()
