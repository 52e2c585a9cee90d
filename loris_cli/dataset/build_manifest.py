"""The manifest of a data set, built from its records.

records, review decisions -> accepted clips -> partitions within each activity -> manifest.jsonl

Every worker that is done writes the manifest from all records, and repeats that if another
worker has added a record meanwhile. So the last one to write has read all records.
"""

from pathlib import Path

from loris_cli.dataset.clip_cutting import ACTIVITY_OF_SUBSET
from loris_cli.dataset.manifest import write_manifest_rows
from loris_cli.dataset.partitions import assign_partitions
from loris_cli.dataset.records import Record, list_record_paths, read_all_clips
from loris_cli.dataset.review import is_accepted, read_decisions
from loris_cli.dataset.source_names import ACTIVITIES


def build_manifest(data_dir: Path, *, seed: int = 0) -> list[Record]:
    """Write the manifest of a data set and return its rows.

    Args:
        data_dir: its folder.
        seed: of the partitions.

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
    return [(path.name, path.stat().st_mtime_ns) for path in list_record_paths(data_dir)]


def _build_rows(data_dir: Path, seed: int) -> list[Record]:
    decisions = read_decisions(data_dir)
    accepted = [clip for clip in read_all_clips(data_dir) if is_accepted(clip, decisions)]
    rows = []
    for activity in ACTIVITIES:
        # Clips of 25 s and 50 s of one video share its group, and so their partition.
        clips = [clip for clip in accepted if ACTIVITY_OF_SUBSET[clip["subset"]] == activity]
        assigned = assign_partitions({clip["id"]: clip["groups"] for clip in clips}, seed=seed)
        for clip in clips:
            partition = clip["partition"] or assigned[clip["id"]]
            rows.append(clip | {"partition": partition, "partition_seed": seed})
    return sorted(rows, key=lambda row: (row["subset"], row["id"]))
