"""What the name of a source tells: its kind, its style, and what it shares with others.

name -> kind, genre, groups

The names are those of the paper's sources: AIST++ (dance), FineGym (floor exercise), FisV and
FS1000 (figure skating). Clips that share a group belong in one split.
"""

import re
from dataclasses import dataclass
from typing import Literal

from loris_cli.config import GENRES

Activity = Literal["dance", "floor", "skate"]
ACTIVITIES: tuple[Activity, ...] = ("dance", "floor", "skate")

GENRE_OF_AIST_CODE = dict(
    zip("gJB gLO gWA gMH gBR gLH gJS gHO gPO gKR".split(), GENRES[:10], strict=True)
)
"""AIST's codes in the order of the paper's one-hot labels."""

AIST_NAME = re.compile(r"(g[A-Z]{2})_(s[A-Z]{2})_(c\w+?)_(d\d+)_(m[A-Z]{2}\d+)_(ch\d+)")
# The first field is a YouTube id of eleven characters, underscores among them perhaps; its
# authors' "E" between the parts is not always there.
FINEGYM_NAME = re.compile(r"(?P<video>[\w-]{11})_(?:E_)?(?P<event>\d{6}_\d{6})")
FISV_NAME = re.compile(r"\d{1,3}")
FS1000_NAME = re.compile(r"\d{4}_\w+?_(?:MF|MS|LF|LS)_.+")


@dataclass(frozen=True, kw_only=True)
class SourceInfo:
    """What a name tells of a source."""

    activity: Activity
    genre: str
    """One of `config.GENRES`."""
    groups: tuple[str, ...]
    """What it is part of: a performance, a piece of music, a video."""


def parse_source_name(stem: str) -> SourceInfo | None:
    """Read the name of a source, without its suffix; None where it is none of the four.

    Args:
        stem: e.g. ``gBR_sFM_c01_d04_mBR0_ch01`` or ``2018_Worlds_MF_12``.
    """
    if found := AIST_NAME.fullmatch(stem):
        genre, situation, _, dancer, music, choreography = found.groups()
        if genre in GENRE_OF_AIST_CODE:
            performance = "_".join((genre, situation, dancer, music, choreography))
            return SourceInfo(
                activity="dance",
                genre=GENRE_OF_AIST_CODE[genre],
                groups=(f"performance:{performance}", f"music:{music}"),
            )
    if found := FINEGYM_NAME.fullmatch(stem):
        return SourceInfo(activity="floor", genre="floor", groups=(f"video:{found['video']}",))
    if FISV_NAME.fullmatch(stem):
        return SourceInfo(activity="skate", genre="skate", groups=(f"video:fisv-{stem}",))
    if FS1000_NAME.fullmatch(stem):
        return SourceInfo(activity="skate", genre="skate", groups=(f"video:{stem}",))
    return None
