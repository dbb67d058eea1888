"""`python -m ralph` is the command, wherever it is installed."""

from ralph.front.cli import main

if __name__ == "__main__":
    main(prog_name="ralph")
