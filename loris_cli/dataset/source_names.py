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
# The first field is an 11-character YouTube id, which may contain underscores. The "E" that the
# authors put between the fields is optional.
FINEGYM_NAME = re.compile(r"(?P<video>[\w-]{11})_(?:E_)?(?P<start>\d{6})_(?P<end>\d{6})")
MAX_FINEGYM_S = 86_400
"""Latest end of an event. Names of phone videos, which contain a date and a time, exceed it."""
FISV_NAME = re.compile(r"\d{1,3}")
FS1000_NAME = re.compile(r"\d{4}_\w+?_(?:MF|MS|LF|LS)_.+")
CLIP_SUFFIX = re.compile(r"(?:_seg\d+)?(?:-[0-9a-f]{8})?(?:-[a-z]{2}\d{2}-\d+)?$")
"""Segment number of the authors' release, and hash, subset and index of `loris prep`."""


@dataclass(frozen=True, kw_only=True)
class SourceInfo:
    """Activity, genre and groups of a source video."""

    activity: Activity
    genre: str
    """One of `config.GENRES`."""
    groups: tuple[str, ...]
    """Identifiers of the performance, the piece of music, the dancer or the full-length
    video."""


def parse_source_name(stem: str, *, activity: Activity | None = None) -> SourceInfo | None:
    """Parse a source name.

    Args:
        stem: file name without suffix, e.g. ``gBR_sFM_c01_d04_mBR0_ch01`` or
            ``2018_Worlds_MF_12``.
        activity: activity of the video, if known. FisV videos are named by a number only, such
            as ``7``, so they are recognized as figure skating only if it is known.

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
                groups=(f"performance:{performance}", f"music:{music}", f"dancer:{dancer}"),
            )
    match = FINEGYM_NAME.fullmatch(stem)
    if match and int(match["start"]) < int(match["end"]) <= MAX_FINEGYM_S:
        return SourceInfo(activity="floor", genre="floor", groups=(f"video:{match['video']}",))
    if FISV_NAME.fullmatch(stem) and activity == "skate":
        return SourceInfo(activity="skate", genre="skate", groups=(f"video:fisv-{stem}",))
    if FS1000_NAME.fullmatch(stem):
        return SourceInfo(activity="skate", genre="skate", groups=(f"video:{stem}",))
    return None


def derive_groups(source_name: str) -> tuple[str, ...]:
    """Return the groups of a clip from the name of its source, video file or clip.

    Args:
        source_name: name without file suffix; the suffix of a segment is ignored.

    Returns:
        groups of a known name; else the name itself, so that segments of one source share it.
    """
    match = AIST_NAME.search(source_name)
    stem = match[0] if match else CLIP_SUFFIX.sub("", source_name)
    source = parse_source_name(stem)
    return source.groups if source else (f"video:{stem}",)
