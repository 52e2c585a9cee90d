"""Parse the names of source videos: activity, genre, and groups of related videos.

name -> activity, genre, groups

Supported are the names used by the paper's sources: AIST++ (dance), FineGym (floor exercise),
FisV and FS1000 (figure skating). Clips that share a group are assigned to the same partition.
AIST names encode genre, situation, camera, dancer, music and choreography, for example
``gBR_sFM_c01_d04_mBR0_ch01`` (Tsuchida et al., AIST Dance Video Database, ISMIR 2019).
"""

import re
from dataclasses import dataclass
from typing import Literal

from loris_cli.config import GENRES

Activity = Literal["dance", "floor", "skate"]
ACTIVITIES: tuple[Activity, ...] = ("dance", "floor", "skate")

AIST_CODES = "gJB gLO gWA gMH gBR gLH gJS gHO gPO gKR".split()
"""AIST's genre codes in the order of the paper's one-hot labels."""
GENRE_OF_AIST_CODE = dict(zip(AIST_CODES, GENRES[:10], strict=True))

AIST_NAME = re.compile(r"(g[A-Z]{2})_(s[A-Z]{2})_(c\w+?)_(d\d+)_(m[A-Z]{2}\d+)_(ch\d+)")
AIST_CAMERA = re.compile(r"(?<=_)c\d{2}(?=_d\d{2}_m[A-Z]{2}\d_)")
# The first field is an 11-character YouTube id, which may contain underscores. The "E" that the
# authors put between the fields is optional.
FINEGYM_NAME = re.compile(r"(?P<video>[\w-]{11})_(?:E_)?(?P<event>\d{6}_\d{6})")
FISV_NAME = re.compile(r"\d{1,3}")
FS1000_NAME = re.compile(r"\d{4}_\w+?_(?:MF|MS|LF|LS)_.+")


@dataclass(frozen=True, kw_only=True)
class SourceInfo:
    """Activity, genre and groups of a source video."""

    activity: Activity
    genre: str
    """One of `config.GENRES`."""
    groups: tuple[str, ...]
    """Identifiers of the performance, the piece of music or the full-length video."""


def parse_source_name(stem: str) -> SourceInfo | None:
    """Parse a source name.

    Args:
        stem: file name without suffix, e.g. ``gBR_sFM_c01_d04_mBR0_ch01`` or
            ``2018_Worlds_MF_12``.

    Returns:
        activity, genre and groups; None if the name follows none of the four patterns.
    """
    if match := AIST_NAME.fullmatch(stem):
        genre, situation, _, dancer, music, choreography = match.groups()
        if genre in GENRE_OF_AIST_CODE:
            performance = "_".join((genre, situation, dancer, music, choreography))
            return SourceInfo(
                activity="dance",
                genre=GENRE_OF_AIST_CODE[genre],
                groups=(f"performance:{performance}", f"music:{music}"),
            )
    if match := FINEGYM_NAME.fullmatch(stem):
        return SourceInfo(activity="floor", genre="floor", groups=(f"video:{match['video']}",))
    if FISV_NAME.fullmatch(stem):
        return SourceInfo(activity="skate", genre="skate", groups=(f"video:fisv-{stem}",))
    if FS1000_NAME.fullmatch(stem):
        return SourceInfo(activity="skate", genre="skate", groups=(f"video:{stem}",))
    return None


def parse_aist_performance(source_name: str) -> tuple[str, str, str] | None:
    """Return music, dancer and choreography of an AIST recording; None for other names.

    The camera is ignored because all cameras recorded the same performance.
    """
    match = AIST_NAME.search(source_name)
    return (match[5], match[4], match[6]) if match else None


def normalize_aist_camera(source_name: str) -> str:
    """Replace the camera in the name of an AIST recording with ``c00``."""
    return AIST_CAMERA.sub("c00", source_name)
