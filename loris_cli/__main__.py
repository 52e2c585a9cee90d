"""``python -m loris_cli``: the only module of the library that imports the commands."""

from loris_cli.commands.app import main

if __name__ == "__main__":
    main()
