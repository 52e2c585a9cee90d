"""Results reach their place whole or not at all, whatever the name and whatever goes wrong."""

import errno
import os
from pathlib import Path

import pytest

from loris_cli.errors import LorisError, OutputError, UsageError
from loris_cli.system.atomic_files import (
    atomic_write,
    check_output_paths,
    printable_path,
    temporary_folder,
)

AWKWARD = [
    "two words.mp4",
    "-dash.mp4",
    "%03d.mp4",
    "12:30.mp4",
    "line\nend.mp4",
    "фигурное катание.mp4",
    "[bold]dance[red].mp4",
    "x" * 251 + ".mp4",
    "ж" * 125 + ".mp4",
    ".hidden",
    "no suffix",
]


def files_in(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_result_reaches_its_place_under_any_name(
    tmp_path: Path, name: str, overwrite: bool
) -> None:
    out = tmp_path / name
    with atomic_write(out, overwrite=overwrite) as temporary_path:
        assert temporary_path.parent == tmp_path
        assert temporary_path.suffix == (out.suffix or ".part")
        assert temporary_path.name.startswith(".")
        assert not out.exists()
        temporary_path.write_text("new")
    assert out.read_text() == "new"
    assert files_in(tmp_path) == [name]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit, OSError])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, failure: type[BaseException]
) -> None:
    out = tmp_path / "a.mp4"
    out.write_text("old")

    def work() -> None:
        with atomic_write(out, overwrite=True) as temporary_path:
            temporary_path.write_text("half")
            raise failure

    with pytest.raises(failure):
        work()
    assert out.read_text() == "old"
    assert files_in(tmp_path) == ["a.mp4"]


def test_an_existing_file_is_kept_without_overwrite(tmp_path: Path) -> None:
    out = tmp_path / "a.mp4"
    out.write_text("old")
    with pytest.raises(OutputError, match="exists"), atomic_write(out, overwrite=False):
        pytest.fail("the work must not start")
    assert out.read_text() == "old"


@pytest.mark.parametrize("hard_links", [True, False])
def test_a_file_that_appears_during_the_work_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard_links: bool
) -> None:
    if not hard_links:
        monkeypatch.setattr(os, "link", refuse_link)
    out = tmp_path / "a.mp4"

    def work() -> None:
        with atomic_write(out, overwrite=False) as temporary_path:
            temporary_path.write_text("ours")
            out.write_text("theirs")

    with pytest.raises(OutputError, match="exists"):
        work()
    assert out.read_text() == "theirs"
    assert files_in(tmp_path) == ["a.mp4"]


def refuse_link(*_: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


def test_a_drive_without_hard_links_still_takes_a_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", refuse_link)
    with atomic_write(tmp_path / "a.mp4", overwrite=False) as temporary_path:
        temporary_path.write_text("new")
    assert (tmp_path / "a.mp4").read_text() == "new"
    assert files_in(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_a_full_disk_is_told_with_a_hint(tmp_path: Path, number: int) -> None:
    with (
        pytest.raises(OutputError, match="no room") as caught,
        atomic_write(tmp_path / "a.mp4", overwrite=False),
    ):
        raise OSError(number, os.strerror(number))
    assert caught.value.hint
    assert files_in(tmp_path) == []


def test_a_full_disk_met_when_flushing_is_told_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(OutputError, match="no room"),
        atomic_write(tmp_path / "a.mp4", overwrite=False) as temporary_path,
    ):
        temporary_path.write_text("new")
    assert files_in(tmp_path) == []


def test_an_error_of_reading_is_not_blamed_on_the_output(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "a.mp4", overwrite=True):
        (tmp_path / "missing").read_text()


def test_no_permission_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", closed)  # chmod does not stop root
    with (
        pytest.raises(OutputError, match="no permission"),
        atomic_write(tmp_path / "a.mp4", overwrite=True),
    ):
        pytest.fail("the work must not start")


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="does not exist"),
        atomic_write(tmp_path / "no" / "a.mp4", overwrite=True),
    ):
        pytest.fail("the work must not start")


def test_a_device_is_not_replaced() -> None:
    with (
        pytest.raises(OutputError, match="not a plain file"),
        atomic_write(Path(os.devnull), overwrite=True),
    ):
        pytest.fail("the work must not start")


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "a.mp4").symlink_to(tmp_path / "far" / "b.mp4")
    with atomic_write(tmp_path / "a.mp4", overwrite=True) as temporary_path:
        temporary_path.write_text("new")
    assert (tmp_path / "a.mp4").is_symlink()
    assert (tmp_path / "far" / "b.mp4").read_text() == "new"


def test_a_new_file_has_the_usual_permissions_and_an_old_one_keeps_its_own(
    tmp_path: Path,
) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    with atomic_write(tmp_path / "a.mp4", overwrite=True):
        pass
    assert (tmp_path / "a.mp4").stat().st_mode == plain.stat().st_mode
    (tmp_path / "a.mp4").chmod(0o600)
    with atomic_write(tmp_path / "a.mp4", overwrite=True):
        pass
    assert (tmp_path / "a.mp4").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("link", ["same", "symbolic", "hard", "detour"])
def test_an_output_that_is_an_input_is_refused(
    tmp_path: Path, link: str, overwrite: bool
) -> None:
    source = tmp_path / "a.mp4"
    source.touch()
    out = tmp_path / "b.mp4"
    if link == "symbolic":
        out.symlink_to(source)
    elif link == "hard":
        out.hardlink_to(source)
    elif link == "detour":
        (tmp_path / "sub").mkdir()
        out = tmp_path / "sub" / ".." / "a.mp4"
    else:
        out = source
    with pytest.raises(UsageError, match="the input itself"):
        check_output_paths([out], [source], overwrite=overwrite)


def test_two_results_in_one_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two results"):
        check_output_paths([tmp_path / "a", tmp_path / "." / "a"], [], overwrite=True)


def test_an_existing_output_needs_overwrite(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    check_output_paths([tmp_path / "a.mp4"], [], overwrite=True)
    with pytest.raises(UsageError, match="exists") as caught:
        check_output_paths([tmp_path / "a.mp4"], [], overwrite=False)
    assert "--overwrite" in caught.value.hint


def test_a_place_that_cannot_be_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is not a folder"):
        check_output_paths([tmp_path / "file" / "a.mp4"], [], overwrite=True)
    with pytest.raises(UsageError, match="does not exist"):
        check_output_paths([tmp_path / "no" / "a.mp4"], [], overwrite=True)
    with pytest.raises(UsageError, match="is a folder"):
        check_output_paths([tmp_path], [], overwrite=True)


@pytest.mark.parametrize("name", [*AWKWARD, os.fsdecode(b"\xff\xfe.mp4"), "tab\tesc\x1b[31m"])
def test_every_message_is_one_line_that_can_be_printed(tmp_path: Path, name: str) -> None:
    with pytest.raises(LorisError) as caught:
        check_output_paths([tmp_path / "no" / name], [], overwrite=False)
    text = str(caught.value) + caught.value.hint
    assert text.isprintable()
    assert text.encode()
    assert printable_path("plain [b] é.mp4") == "plain [b] é.mp4"


def test_a_temporary_folder_is_removed_with_its_files(tmp_path: Path) -> None:
    with temporary_folder(tmp_path) as folder:
        (folder / "a").mkdir()
        (folder / "a" / "b.wav").write_text("")
        assert folder.parent == tmp_path
    assert files_in(tmp_path) == []


def test_an_interrupt_as_a_temporary_folder_is_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir = os.mkdir

    def interrupt_after_mkdir(path: Path, mode: int) -> None:
        mkdir(path, mode)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "mkdir", interrupt_after_mkdir)
    with pytest.raises(KeyboardInterrupt), temporary_folder(tmp_path):
        pass
    assert files_in(tmp_path) == []


def test_a_temporary_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError), temporary_folder(tmp_path / "missing"):
        pass
