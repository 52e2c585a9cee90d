"""Manual review of rejected clips: list of clips, and decisions that override the filters.

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
ACCEPT, REJECT = "accept", "reject"


@dataclass(frozen=True, kw_only=True)
class ReviewItem:
    """A clip to review."""

    id: str
    source: str
    start_s: float
    reasons: tuple[str, ...]
    accepted: bool


def list_review_items(data_dir: Path) -> list[ReviewItem]:
    """Return the clips with a rejection reason or a manual decision.

    Raises:
        InputError: a record or the decisions file is damaged.
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
    """Return whether a clip belongs in the manifest. Decisions override the filters."""
    decision = decisions.get(clip["id"])
    return decision == ACCEPT or (decision is None and not clip["rejection_reasons"])


def read_decisions(data_dir: Path) -> dict[str, str]:
    """Read the manual decisions, ``accept`` or ``reject``, by clip id.

    Raises:
        InputError: the file is damaged.
    """
    path = data_dir / DECISIONS_FILE
    decisions = read_json(path) or {}
    if not isinstance(decisions, dict) or not set(map(str, decisions.values())) <= {
        ACCEPT,
        REJECT,
    }:
        raise InputError(f"{path} is not a valid decisions file", hint="delete the file")
    return decisions


def read_clip_ids(path: Path) -> list[str]:
    """Read clip ids, one per line; blank lines and comments (``#``) are skipped.

    Raises:
        InputError: the file cannot be read as UTF-8 text.
    """
    # Lines of `loris dataset review` can be pasted unchanged: the id is the first column.
    return [line.split()[0] for line in read_lines(path) if not line.startswith("#")]


def save_decisions(data_dir: Path, decision: str, ids: Sequence[str]) -> None:
    """Save a manual decision for some clips.

    Args:
        data_dir: data set folder.
        decision: `ACCEPT` or `REJECT`.
        ids: clip ids.

    Raises:
        InputError: a clip id does not exist.
    """
    known = {clip["id"] for clip in read_all_clips(data_dir)}
    if unknown := [name for name in ids if name not in known]:
        raise InputError(
            f"{data_dir} has no clip {unknown[0]}",
            hint=f"list the clips: loris dataset review {printable_path(data_dir)}",
        )
    decisions = read_decisions(data_dir) | dict.fromkeys(ids, decision)
    with atomic_write(data_dir / DECISIONS_FILE, overwrite=True) as temporary:
        text = json.dumps(decisions, indent=1, sort_keys=True)
        temporary.write_text(text + "\n", encoding="utf-8")
