"""Soundtracks for many videos: each on its own, none stops the others.

names, settings -> plan -> jobs -> run -> rows, one a take: what was made, or why not
"""

from loris_cli.batch.models import generator_of
from loris_cli.batch.plan import Job, Settings, plan
from loris_cli.batch.rows import Row, add_to_report, exit_code
from loris_cli.batch.run import estimate, make, run

__all__ = [
    "Job",
    "Row",
    "Settings",
    "add_to_report",
    "estimate",
    "exit_code",
    "generator_of",
    "make",
    "plan",
    "run",
]
