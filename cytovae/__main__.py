"""``python -m cytovae``."""

from cytovae.cli import main

if __name__ == "__main__":
    main()
