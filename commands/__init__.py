"""The commands of ``loris``, one module each; installed as ``loris_cli.commands``."""
