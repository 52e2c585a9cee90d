"""Entry point of ``python -m loris_cli``. No other library module imports the commands."""

from loris_cli.commands.app import main

if __name__ == "__main__":
    main()
