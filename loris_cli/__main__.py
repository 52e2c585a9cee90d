"""Entry point of ``python -m loris_cli``. No other library module imports the commands."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the current folder, whose modules must not replace those of loris
    from loris_cli.commands.app import main

    main()
