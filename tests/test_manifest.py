"""The list of a data set's clips."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from loris_cli.dataset.manifest import Clip, read_manifest, write_manifest
from loris_cli.errors import InputError

CLIP = Clip(
    id="a",
    subset="synthetic",
    partition="train",
    duration_s=24.0,
    genre="skate",
    source="synthesised",
    audio="audio/a.flac",
    rhythm="rhythm/a.npz",
)


def test_a_manifest_comes_back_as_it_went(tmp_path: Path) -> None:
    write_manifest(tmp_path, [CLIP])

    assert read_manifest(tmp_path) == [CLIP]


def test_visual_features_are_told_by_who_made_them(tmp_path: Path) -> None:
    two = replace(CLIP, visual={"i3d-kinetics": "visual/a.npz", "i3d-charades": "visual/b.npz"})
    write_manifest(tmp_path, [two])
    assert read_manifest(tmp_path) == [two]
    assert two.file_paths == ("audio/a.flac", "rhythm/a.npz", "visual/a.npz", "visual/b.npz")


@pytest.mark.parametrize(
    "row",
    [
        "not json",
        "[]",
        '{"schema": 3}',
        '{"schema": 2, "id": "a"}',
        json.dumps({**CLIP.__dict__, "schema": 1}),
        json.dumps({**CLIP.__dict__, "synthetic": "no"}),
        json.dumps({**CLIP.__dict__, "duration_s": "long"}),
        json.dumps({**CLIP.__dict__, "audio": "../../secret.flac"}),
        json.dumps({**CLIP.__dict__, "rhythm": "/etc/passwd"}),
        json.dumps({**CLIP.__dict__, "visual": {"i3d": "../a.npz"}}),
        json.dumps({**CLIP.__dict__, "visual": {"i3d": 1}}),
        json.dumps({**CLIP.__dict__, "visual": {"clairvoyance": "a.npz"}}),
        json.dumps({**CLIP.__dict__, "visual": ["a.npz"]}),
    ],
)
def test_a_row_that_is_no_clip_is_refused_with_its_line(tmp_path: Path, row: str) -> None:
    (tmp_path / "manifest.jsonl").write_text(json.dumps(CLIP.__dict__) + "\n" + row + "\n")

    with pytest.raises(InputError, match=r"manifest\.jsonl:2"):
        read_manifest(tmp_path)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read_manifest(tmp_path)


def test_an_id_that_stands_twice_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path, [CLIP, CLIP])

    with pytest.raises(InputError, match="two clips a"):
        read_manifest(tmp_path)


def test_hashed_files_stay_in_the_folder_too(tmp_path: Path) -> None:
    row = json.dumps({**CLIP.__dict__, "files": {"../secret": {"bytes": 1}}})
    (tmp_path / "manifest.jsonl").write_text(row + "\n")

    with pytest.raises(InputError, match="points out"):
        read_manifest(tmp_path)
