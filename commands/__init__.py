"""Commands of ``loris``, one module per command; installed as ``loris_cli.commands``."""
