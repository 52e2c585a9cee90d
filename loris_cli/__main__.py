"""``python -m loris_cli``: the one place that looks upward to the commands."""

from loris_cli.commands.app import main

if __name__ == "__main__":
    main()
