"""The manifest, made of the records: splits drawn, a person's decisions heeded.

records, decisions -> clips that are used -> splits within each kind -> manifest.jsonl

Nobody appends to the manifest: whoever is done writes it whole from all records there are, and
looks again whether another worker has added one meanwhile. So the last to write has seen all.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from loris_cli.dataset.clip_cutting import CUTTING_RULES
from loris_cli.dataset.manifest import write_manifest_rows
from loris_cli.dataset.partitions import assign_partitions
from loris_cli.dataset.records import RECORDS_FOLDER, Record, read_records
from loris_cli.errors import InputError
from loris_cli.system.atomic_files import atomic_write, printable_path

DECISIONS_FILE = "decisions.json"
KEEP, DROP = "keep", "drop"
ACTIVITY_OF_SUBSET = {
    cut.subset: kind for kind, recipe in CUTTING_RULES.items() for cut in recipe.length_rules
}


def build_manifest(data_dir: Path, *, seed: int = 0) -> list[Record]:
    """Write the manifest of a data set.

    Args:
        data_dir: its folder.
        seed: of the splits.

    Returns:
        the rows written.

    Raises:
        InputError: a record is damaged.
        OutputError: the manifest cannot be written.
    """
    while True:
        before = _list_record_mtimes(data_dir)
        rows = _build_rows(data_dir, seed)
        write_manifest_rows(data_dir, rows)
        if _list_record_mtimes(data_dir) == before:
            return rows


def _list_record_mtimes(data_dir: Path) -> list[tuple[str, int]]:
    places = sorted((data_dir / RECORDS_FOLDER).glob("[!.]*.json"))
    return [(path.name, path.stat().st_mtime_ns) for path in places]


def _build_rows(data_dir: Path, seed: int) -> list[Record]:
    decisions = read_decisions(data_dir)
    chosen = [clip for clip in read_all_clips(data_dir) if is_accepted(clip, decisions)]
    rows = []
    for kind in CUTTING_RULES:
        # The 25 s and the 50 s of one video are one family: neither may test the other.
        ours = [clip for clip in chosen if ACTIVITY_OF_SUBSET[clip["subset"]] == kind]
        drawn = assign_partitions({clip["id"]: clip["groups"] for clip in ours}, seed=seed)
        rows += [
            clip | {"partition": clip["partition"] or drawn[clip["id"]], "partition_seed": seed}
            for clip in ours
        ]
    return sorted(rows, key=lambda row: (row["subset"], row["id"]))


def read_all_clips(data_dir: Path) -> list[Record]:
    """Clips of all records, those that are set aside too."""
    return [clip for record in read_records(data_dir) for clip in record["clips"]]


def is_accepted(clip: Record, decisions: dict[str, str]) -> bool:
    """Whether a clip belongs in the manifest: a person has the last word."""
    decision = decisions.get(clip["id"])
    return decision == KEEP or (decision is None and not clip["rejected"])


def read_decisions(data_dir: Path) -> dict[str, str]:
    """What a person decided: ``keep`` or ``drop`` for each id.

    Raises:
        InputError: the file is damaged.
    """
    path = data_dir / DECISIONS_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{printable_path(path)} cannot be read", hint="remove it") from error
    if not isinstance(found, dict) or not set(map(str, found.values())) <= {KEEP, DROP}:
        raise InputError(f"{printable_path(path)} is no list of decisions", hint="remove it")
    return found


def read_clip_ids(path: Path) -> list[str]:
    """Ids of clips, one a line; blank lines and comments (``#``) are skipped.

    Raises:
        InputError: it is no such list.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"the list {printable_path(path)} cannot be read",
            hint="a list is a UTF-8 text file",
        ) from error
    # A line of `--review` may be pasted whole: the id comes first.
    words = [line.split()[0] for line in lines if line.strip()]
    return [word for word in words if not word.startswith("#")]


def save_decisions(data_dir: Path, decision: str, ids: Sequence[str]) -> None:
    """Note what a person decided of some clips.

    Raises:
        InputError: there is no clip of such an id.
    """
    known = {clip["id"] for clip in read_all_clips(data_dir)}
    if strangers := [name for name in ids if name not in known]:
        raise InputError(
            f"{printable_path(data_dir)} has no clip {printable_path(strangers[0])}",
            hint=f"loris prep --review {printable_path(data_dir)} lists them",
        )
    decisions = read_decisions(data_dir) | dict.fromkeys(ids, decision)
    with atomic_write(data_dir / DECISIONS_FILE, overwrite=True) as part:
        text = json.dumps(decisions, indent=1, sort_keys=True)
        part.write_text(text + "\n", encoding="utf-8")
