"""Build the manifest of a data set from its records.

records, review decisions -> accepted clips -> partitions within each activity -> manifest.jsonl

Each run writes the manifest from all records when it finishes, and repeats this if another run
has changed a record in the meantime. The last writer has therefore read all records.
"""

from collections.abc import Mapping
from pathlib import Path

from loris_cli.dataset.clip_cutting import ACTIVITY_OF_SUBSET
from loris_cli.dataset.manifest import write_manifest_rows
from loris_cli.dataset.partitions import assign_partitions
from loris_cli.dataset.records import Record, list_record_paths, read_records
from loris_cli.dataset.review import is_accepted, read_decisions
from loris_cli.dataset.source_names import ACTIVITIES
from loris_cli.dataset.video_copies import group_copies


def build_manifest(data_dir: Path, *, seed: int = 0) -> list[Record]:
    """Write the manifest of a data set and return its rows.

    Args:
        data_dir: data set folder.
        seed: random seed of the partition assignment.

    Raises:
        InputError: A record is damaged.
        OutputError: the manifest cannot be written.
    """
    while True:
        before = _list_record_mtimes(data_dir)
        rows = _build_rows(data_dir, seed)
        write_manifest_rows(data_dir, rows)
        if _list_record_mtimes(data_dir) == before:
            return rows


def _list_record_mtimes(data_dir: Path) -> list[tuple[str, int]]:
    return [(path.name, path.stat().st_mtime_ns) for path in list_record_paths(data_dir)]


def _build_rows(data_dir: Path, seed: int) -> list[Record]:
    decisions = read_decisions(data_dir)
    records = read_records(data_dir)
    copies = group_copies(records)
    accepted = [
        clip | {"groups": [*clip["groups"], *_find_copy_group(clip, copies)]}
        for record in records
        for clip in record["clips"]
        if is_accepted(clip, decisions)
    ]
    rows = []
    for activity in ACTIVITIES:
        # 25 s and 50 s clips of one video are in the same group, hence in the same partition.
        clips = [clip for clip in accepted if ACTIVITY_OF_SUBSET[clip["subset"]] == activity]
        assigned = assign_partitions({clip["id"]: clip["groups"] for clip in clips}, seed=seed)
        for clip in clips:
            partition = clip["partition"] or assigned[clip["id"]]
            rows.append(clip | {"partition": partition, "partition_seed": seed})
    return sorted(rows, key=lambda row: (row["subset"], row["id"]))


def _find_copy_group(clip: Record, copies: Mapping[str, str]) -> list[str]:
    """Return the group of the copies of a clip's source; empty if there are none."""
    group = copies.get(clip.get("source_sha256", ""))
    return [] if group is None else [group]
