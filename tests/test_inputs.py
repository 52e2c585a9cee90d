"""Input names, folders and list files, and the output path of each input."""

import errno
import os
import re
from pathlib import Path

import pytest

from loris_cli.errors import InputError, OutputError, UsageError
from loris_cli.system.input_paths import (
    expand_inputs,
    find_conflicts,
    find_list_files,
    is_output_folder,
    output_folder,
    resolve_output_paths,
)


@pytest.fixture
def video_folder(tmp_path: Path) -> Path:
    for name in ("b.mp4", "a.MOV", "deep/c.webm", "notes.txt", ".hidden.mp4", "a.loris.mp4"):
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "videos"


def list_relative_paths(video_folder: Path, paths: list[Path]) -> list[str]:
    return [path.relative_to(video_folder).as_posix() for path in paths]


def test_a_folder_expands_to_its_videos_without_outputs_of_loris(video_folder: Path) -> None:
    assert list_relative_paths(video_folder, expand_inputs([str(video_folder)])) == [
        "a.MOV",
        "b.mp4",
        "deep/c.webm",
    ]


def test_a_video_named_twice_is_read_once(video_folder: Path) -> None:
    (video_folder / "link.mp4").symlink_to("b.mp4")
    paths = [video_folder / "b.mp4", video_folder / "deep/../b.mp4", video_folder / "link.mp4"]
    assert expand_inputs([str(path) for path in paths]) == [video_folder / "b.mp4"]


def test_a_named_file_is_an_input_with_any_suffix() -> None:
    assert expand_inputs(["x.strange", "-x.mp4"]) == [Path("x.strange"), Path("-x.mp4")]


def test_circular_folder_links_are_not_followed(video_folder: Path) -> None:
    (video_folder / "deep" / "up").symlink_to(video_folder, target_is_directory=True)
    assert list_relative_paths(video_folder, expand_inputs([str(video_folder)])) == [
        "a.MOV",
        "b.mp4",
        "deep/c.webm",
    ]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_list_file_is_read_with_any_line_end_and_byte_order_mark(
    video_folder: Path, line_end: str, mark: str
) -> None:
    lines = [
        "# comment",
        "",
        "b.mp4",
        "  deep/c.webm ",
        "\u00e9t\u00e9 \u2028 1.mp4",
        "#",
        str(video_folder / "a.MOV"),
    ]
    (video_folder / "list.txt").write_bytes((mark + line_end.join(lines)).encode())

    videos = expand_inputs([f"@{video_folder / 'list.txt'}"])

    assert list_relative_paths(video_folder, videos) == [
        "b.mp4",
        "deep/c.webm",
        "\u00e9t\u00e9 \u2028 1.mp4",
        "a.MOV",
    ]


def test_a_list_file_may_name_folders_and_names_with_a_final_space(video_folder: Path) -> None:
    (video_folder / "b.mp4 ").touch()
    (video_folder / "list").write_text("deep\nb.mp4 \n")
    assert list_relative_paths(video_folder, expand_inputs([f"@{video_folder / 'list'}"])) == [
        "deep/c.webm",
        "b.mp4 ",
    ]


def test_an_existing_file_with_an_at_sign_is_not_a_list(
    video_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(video_folder)
    Path("@b.mp4").touch()
    assert expand_inputs(["@b.mp4"]) == [Path("@b.mp4")]
    assert find_list_files(["@b.mp4", "@list.txt", "b.mp4"]) == [Path("list.txt")]


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfea\0", b"\x80\n", b"a\0b.mp4\n"],
    ids=["UTF-16", "invalid byte", "NUL byte"],
)
def test_a_list_file_that_is_not_utf_8_text_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.txt").write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.txt") as caught:
        expand_inputs([f"@{tmp_path / 'bad.txt'}"])
    assert "UTF-8" in caught.value.hint


@pytest.mark.parametrize("names", [[], [""], ["a.mp4", ""]])
def test_missing_and_empty_names_are_a_usage_error(names: list[str]) -> None:
    with pytest.raises(UsageError):
        expand_inputs(names)


def test_an_empty_list_file_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("# comment\n\n")
    with pytest.raises(UsageError, match="input"):
        expand_inputs([f"@{tmp_path / 'list'}"])


def resolve_names(*videos: str, out: str | None = None, takes: int = 1) -> list[str]:
    paths = [Path(video) for video in videos]
    output = None if out is None else Path(out)
    outputs = resolve_output_paths(
        paths,
        output,
        default_suffix=".loris.mp4",
        n_takes=takes,
        allowed_suffixes=[".mp4", ".wav"],
    )
    return [str(path) for paths in outputs for path in paths]


def test_default_outputs_are_in_the_folder_of_their_video() -> None:
    assert resolve_names("x/a.mkv", "b.mp4") == ["x/a.loris.mp4", "b.loris.mp4"]


def test_an_output_path_without_suffix_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "old.v2").mkdir()
    (tmp_path / "file").touch()
    assert resolve_names("a.mp4", out="new.WAV") == ["new.WAV"]
    assert resolve_names("a.mp4", out="new") == ["new/a.loris.mp4"]
    assert resolve_names("a.mp4", "b.mp4", out=f"{tmp_path}/old.v2") == [
        f"{tmp_path}/old.v2/a.loris.mp4",
        f"{tmp_path}/old.v2/b.loris.mp4",
    ]
    assert not is_output_folder(tmp_path / "file")


@pytest.mark.parametrize("suffix", [".xyz", ".loris"])
def test_an_output_suffix_without_format_is_refused(suffix: str) -> None:
    with pytest.raises(UsageError, match=re.escape(suffix)) as caught:
        resolve_names("a.mp4", out=f"b{suffix}")
    assert ".mp4, .wav" in caught.value.hint


def test_one_output_file_for_two_inputs_is_refused() -> None:
    with pytest.raises(UsageError, match=r"c\.mp4") as caught:
        resolve_names("a.mp4", "b.mp4", out="c.mp4")
    assert "-o" in caught.value.hint


def find_conflicting_names(*videos: str, out: str | None = None, takes: int = 1) -> list[str]:
    paths = [Path(video) for video in videos]
    outputs = resolve_output_paths(
        paths, None if out is None else Path(out), default_suffix=".loris.mp4", n_takes=takes
    )
    return [str(path) for path in find_conflicts(paths, outputs)]


@pytest.mark.parametrize("takes", [1, 2])
def test_only_inputs_with_the_same_output_path_conflict(takes: int) -> None:
    assert find_conflicting_names("x/a.mp4", "y/a.mp4", takes=takes) == []
    pair = ["x/a.mp4", "y/a.mp4"]
    assert find_conflicting_names(*pair, "b.mp4", out="new", takes=takes) == pair
    pair = ["a.mp4", "a.mov"]
    assert find_conflicting_names("b.mp4", *pair, takes=takes) == pair


def test_the_error_of_a_conflict_names_both_inputs_and_the_output() -> None:
    paths = [Path("x/a.mp4"), Path("y/a.mp4")]
    outputs = resolve_output_paths(paths, Path("new"), default_suffix=".loris.mp4")
    for error in find_conflicts(paths, outputs).values():
        assert re.search(r"x/a\.mp4.*y/a\.mp4.*a\.loris\.mp4", str(error))


def list_mirrored(*names: str) -> list[str]:
    videos = expand_inputs(names)
    outputs = resolve_output_paths(videos, Path("out"), default_suffix=".wav", inputs=names)
    assert find_conflicts(videos, outputs) == {}
    return [path.as_posix() for (path,) in outputs]


def test_sub_folders_are_repeated_below_the_output_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("tree/x/1.mp4", "tree/y/1.mp4", "tree/y/2.mp4", "cam/1.mp4", "3.mp4"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    mirrored = ["out/x/1.wav", "out/y/1.wav", "out/y/2.wav"]
    assert list_mirrored("tree") == list_mirrored("./tree/") == mirrored
    assert list_mirrored(str(tmp_path / "tree")) == mirrored
    assert list_mirrored("tree", "3.mp4") == [*mirrored, "out/3.wav"]
    both = ["out/cam/1.wav", "out/tree/x/1.wav", "out/tree/y/1.wav", "out/tree/y/2.wav"]
    assert list_mirrored("cam", "tree") == both
    Path("list").write_text("cam\ntree\n")
    assert list_mirrored("@list") == both
    assert list_mirrored(".") == ["out/3.wav", *both]
    monkeypatch.chdir("tree/x")
    assert list_mirrored("..", "../../cam") == [
        "out/tree/x/1.wav", "out/tree/y/1.wav", "out/tree/y/2.wav", "out/cam/1.wav"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("out", "paths"),
    [
        (None, ["a-1.loris.mp4", "a-2.loris.mp4"]),
        ("b.wav", ["b-1.wav", "b-2.wav"]),
        ("b.mp4.mp4", ["b.mp4-1.mp4", "b.mp4-2.mp4"]),
        ("b.loris.mp4", ["b-1.loris.mp4", "b-2.loris.mp4"]),
        ("new", ["new/a-1.loris.mp4", "new/a-2.loris.mp4"]),
    ],
    ids=lambda value: str(value) if not isinstance(value, list) else "",
)
def test_takes_are_numbered_before_the_suffix(out: str | None, paths: list[str]) -> None:
    assert resolve_names("a.mp4", out=out, takes=2) == paths


def test_a_new_output_folder_is_removed_if_it_stays_empty(tmp_path: Path) -> None:
    new = tmp_path / "new"
    with output_folder(new):
        assert new.is_dir()
    assert not new.exists()
    with output_folder(new):
        (new / "a.wav").touch()
    assert os.listdir(new) == ["a.wav"]
    with output_folder(new):
        pass
    assert new.is_dir()
    with output_folder(tmp_path / "tree"):
        (tmp_path / "tree" / "sub").mkdir()
    assert not (tmp_path / "tree").exists()


def test_an_existing_empty_folder_is_not_removed(tmp_path: Path) -> None:
    with output_folder(tmp_path):
        assert os.listdir(tmp_path) == []
    assert tmp_path.is_dir()


def test_a_missing_parent_of_an_output_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for parent in ("missing", "file"):
        path = tmp_path / parent / "new"
        with pytest.raises(UsageError, match=f"{parent}/new"), output_folder(path):
            pytest.fail("the block must not run")
    assert os.listdir(tmp_path) == ["file"]


def test_an_output_folder_without_permission_is_an_output_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_mkdir(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse_mkdir)  # chmod does not restrict root
    with pytest.raises(OutputError, match="new"), output_folder(tmp_path / "new"):
        pytest.fail("the block must not run")


@pytest.mark.parametrize(
    "name",
    ["1.MTS", "a.m2t", "a.vob", "a.mxf", "a.ogv", "a.3g2", "a.f4v", "a.qt", "a.h264"],
)
def test_videos_of_cameras_and_discs_are_found_in_a_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert expand_inputs([str(tmp_path)]) == [tmp_path / name]


def test_files_of_unknown_suffixes_in_a_folder_are_named(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.strange", "deep/c.r3d", "notes.txt", "a.loris.xyz", ".hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    warnings: list[str] = []
    assert expand_inputs([str(tmp_path)], on_warning=warnings.append) == [tmp_path / "a.mp4"]
    assert len(warnings) == 1
    assert "b.strange" in warnings[0]
    assert "c.r3d" in warnings[0]
    assert "notes.txt" not in warnings[0]
    assert "a.loris.xyz" not in warnings[0]
