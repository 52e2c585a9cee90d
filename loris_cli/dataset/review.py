"""Manual review of rejected clips: a list to look at, and decisions that overrule the filters.

records, decisions.json -> clips to review; list of ids -> decisions.json
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loris_cli.dataset.records import Record, read_all_clips, read_json, read_lines
from loris_cli.errors import InputError
from loris_cli.system.atomic_files import atomic_write, printable_path

DECISIONS_FILE = "decisions.json"
KEEP, DROP = "keep", "drop"


@dataclass(frozen=True, kw_only=True)
class ReviewItem:
    """A clip to review."""

    id: str
    source: str
    start_s: float
    reasons: tuple[str, ...]
    accepted: bool


def list_review_items(data_dir: Path) -> list[ReviewItem]:
    """Return the clips that were rejected by a filter or decided on by hand, with the reasons.

    Raises:
        InputError: a record is damaged.
    """
    decisions = read_decisions(data_dir)
    return [
        ReviewItem(
            id=clip["id"],
            source=clip["source"],
            start_s=clip["start_s"],
            reasons=(*clip["rejection_reasons"], *filter(None, [decisions.get(clip["id"])])),
            accepted=is_accepted(clip, decisions),
        )
        for clip in read_all_clips(data_dir)
        if clip["rejection_reasons"] or clip["id"] in decisions
    ]


def is_accepted(clip: Record, decisions: dict[str, str]) -> bool:
    """Whether a clip belongs in the manifest; decisions overrule the filters."""
    decision = decisions.get(clip["id"])
    return decision == KEEP or (decision is None and not clip["rejection_reasons"])


def read_decisions(data_dir: Path) -> dict[str, str]:
    """Read the decisions, ``keep`` or ``drop``, by clip id.

    Raises:
        InputError: the file is damaged.
    """
    path = data_dir / DECISIONS_FILE
    decisions = read_json(path) or {}
    if not isinstance(decisions, dict) or not set(map(str, decisions.values())) <= {KEEP, DROP}:
        raise InputError(f"{path} is not a list of decisions", hint="remove it")
    return decisions


def read_clip_ids(path: Path) -> list[str]:
    """Read ids of clips, one a line; blank lines and comments (``#``) are skipped.

    Raises:
        InputError: it is not a text file.
    """
    # A line of `loris dataset review` may be pasted as it is: the id comes first.
    return [line.split()[0] for line in read_lines(path) if not line.startswith("#")]


def save_decisions(data_dir: Path, decision: str, ids: Sequence[str]) -> None:
    """Save a decision on some clips.

    Args:
        data_dir: the data set's folder.
        decision: `KEEP` or `DROP`.
        ids: of the clips.

    Raises:
        InputError: there is no clip of such an id.
    """
    known = {clip["id"] for clip in read_all_clips(data_dir)}
    if unknown := [name for name in ids if name not in known]:
        raise InputError(
            f"{data_dir} has no clip {unknown[0]}",
            hint=f"loris dataset review {printable_path(data_dir)} lists them",
        )
    decisions = read_decisions(data_dir) | dict.fromkeys(ids, decision)
    with atomic_write(data_dir / DECISIONS_FILE, overwrite=True) as temporary:
        text = json.dumps(decisions, indent=1, sort_keys=True)
        temporary.write_text(text + "\n", encoding="utf-8")
