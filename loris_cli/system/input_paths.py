"""Input and output paths of a command, from its arguments.

files, folders, @lists -> input files -> output paths
"""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from loris_cli.errors import InputError, OutputError, UsageError, escape_unprintable
from loris_cli.system.atomic_files import FOLDER_HINT, PARENT_HINT, output_errors

VIDEO_SUFFIXES = frozenset(
    ".mp4 .m4v .mov .qt .mj2 .3gp .3gpp .3g2 .3gp2 .f4v .insv .mkv .mk3d .webm .avi .divx .mpg"
    " .mpeg .mpe .m1v .m2v .mpv .mod .vob .ts .mts .m2t .m2ts .tp .trp .tod .wmv .asf .wtv .flv"
    " .mxf .gxf .ogv .ogm .dv .rm .rmvb .nut .y4m .h264 .264 .avc .h265 .265 .hevc .ivf"
    " .obu".split()
)
"""Suffixes of the files read from a folder; a file given by name may have any suffix."""
NON_VIDEO_SUFFIXES = frozenset(
    ".txt .md .pdf .json .jsonl .csv .tsv .xml .html .log .npz .npy .png .jpg .jpeg .bmp .tif"
    " .tiff .webp .heic .wav .flac .mp3 .m4a .aac .ogg .opus .wma .mid .midi .srt .vtt .ass"
    " .sub .idx .nfo .thm .lrv .bup .ifo .gpx".split()
)
"""Suffixes of other files, which are skipped in folders without a warning."""
MAX_NAMED_FILES = 5

MAX_LIST_BYTES = 64 << 20
INPUT_HINT = "specify video files, folders or @list.txt"


def expand_inputs(
    names: Sequence[str], *, on_warning: Callable[[str], None] | None = None
) -> list[Path]:
    """Return the input files that arguments refer to, in order and without duplicates.

    Args:
        names: files; folders, which are searched recursively; or ``@list.txt``, a UTF-8 file
            with one path per line. Blank lines and lines that begin with ``#`` are skipped;
            relative paths are relative to the list's folder.
        on_warning: called for each folder with files of unknown suffixes, which are skipped.

    Raises:
        InputError: a folder contains no video, or a list cannot be read.
        UsageError: there is no input.
    """
    videos: dict[str, Path] = {}
    for path in _iter_inputs(names, on_warning or (lambda text: None)):
        videos.setdefault(os.path.realpath(path), path)
    if not videos:
        raise UsageError("no input files specified", hint=INPUT_HINT)
    return list(videos.values())


def find_list_files(names: Sequence[str]) -> list[Path]:
    """Return the list files among the arguments, which no result may overwrite."""
    return [Path(name[1:]) for name in names if _is_list_argument(name)]


def _is_list_argument(name: str) -> bool:
    return name.startswith("@") and not os.path.lexists(name)


def _iter_inputs(names: Sequence[str], warn: Callable[[str], None]) -> Iterator[Path]:
    for name in names:
        if not name:  # pathlib interprets it as the current folder
            raise UsageError("an input path is empty", hint=INPUT_HINT)
        if name == "-":
            hint = "save the video to a file first; ./- is a file of this name"
            raise UsageError("standard input is not supported", hint=hint)
        if _is_list_argument(name):
            for path in _read_list_file(Path(name[1:])):
                yield from _find_videos(path, warn) if os.path.isdir(path) else iter([path])
        elif os.path.isdir(name):
            yield from _find_videos(Path(name), warn)
        else:
            yield Path(name)


def _read_list_file(path: Path) -> Iterator[Path]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_LIST_BYTES + 1)
        text = content[:MAX_LIST_BYTES].decode("utf-8-sig")
        if "\0" in text:
            raise ValueError("NUL character in text")
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot read the list {path}", hint="use a UTF-8 text file with one path per line"
        ) from error
    if len(content) > MAX_LIST_BYTES:
        raise InputError(f"the list {path} is larger than 64 MiB", hint="split it")
    # splitlines() would also split at characters that a file name may contain.
    for line in text.replace("\r\n", "\n").split("\n"):
        entry = line.strip()
        if entry and not entry.startswith("#"):
            yield path.parent / (line if os.path.exists(path.parent / line) else entry)


def _find_videos(folder: Path, warn: Callable[[str], None]) -> Iterator[Path]:
    """Yield the videos below a folder, sorted by path.

    Links to folders are not followed, because they may form a loop. Results of loris are
    skipped, because a second run would process them again. Files of unknown suffixes are named
    in a warning.
    """
    files = sorted(
        Path(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if not name.startswith(".") and ".loris" not in Path(name).suffixes[:-1]
    )
    videos = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
    known = VIDEO_SUFFIXES | NON_VIDEO_SUFFIXES
    unknown = [path for path in files if path.suffix.lower() not in known]
    if unknown:
        names = ", ".join(
            escape_unprintable(path.relative_to(folder)) for path in unknown[:MAX_NAMED_FILES]
        )
        more = len(unknown) - MAX_NAMED_FILES
        names += f" and {more} more" if more > 0 else ""
        warn(
            f"{escape_unprintable(folder)}: skipped files with unknown suffixes: {names};"
            " name a file to process it"
        )
    if not videos:
        hint = "searched for " + " ".join(sorted(VIDEO_SUFFIXES))
        raise InputError(f"no video in the folder {folder}", hint=hint)
    yield from videos


def check_not_stdout(output: Path) -> None:
    """Check that an output path is not ``-``, which stands for stdout in other programs.

    Raises:
        UsageError: the path is ``-``.
    """
    if str(output) == "-":
        raise UsageError("writing to stdout is not supported", hint="specify a file")


def is_output_folder(output: Path) -> bool:
    """Return whether ``-o`` is a folder: an existing one, or a new path without a suffix.

    Raises:
        UsageError: the path is ``-`` (`check_not_stdout`).
    """
    check_not_stdout(output)
    # Path.is_dir raises an error for names that are too long.
    return os.path.isdir(output) or (not output.suffix and not os.path.lexists(output))


@contextmanager
def output_folder(output: Path | None) -> Iterator[None]:
    """Create the folder given by ``-o``; at the end, remove empty folders if it is new.

    The parent folder is not created, so that a mistyped path is an error.

    Raises:
        UsageError: the parent folder does not exist.
        OutputError: the folder cannot be created.
    """
    if output is None or not is_output_folder(output) or output.is_dir():
        yield
        return
    try:
        output.mkdir(exist_ok=True)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(
            f"the parent folder {output.parent} of {output} does not exist", hint=PARENT_HINT
        ) from error
    except OSError as error:
        raise OutputError(
            f"cannot create {output}: {error.strerror}", hint=FOLDER_HINT
        ) from error
    try:
        yield
    finally:
        for folder, _, _ in os.walk(output, topdown=False):
            with suppress(OSError):  # not empty: it contains results
                os.rmdir(folder)


def resolve_output_paths(
    videos: Sequence[Path],
    output: Path | None,
    *,
    default_suffix: str | Callable[[Path], str],
    n_takes: int = 1,
    allowed_suffixes: Collection[str] = (),
    inputs: Sequence[str] = (),
) -> list[list[Path]]:
    """Return the output paths of each video, which may conflict (`find_conflicts`).

    Args:
        videos: input files.
        output: None, a file for one input, or a folder (`is_output_folder`) for any number.
        default_suffix: suffix that replaces that of the input if ``output`` is not a file,
            e.g. ``".loris.mp4"``, or a function that returns it for an input.
        n_takes: results per video; several takes are numbered from 1.
        allowed_suffixes: suffixes allowed if ``output`` is a file; empty allows any.
        inputs: arguments of the command. The folders below a folder among them are repeated
            below ``output``; those of several folders in one folder each.

    Returns:
        for each video one path per take.

    Raises:
        UsageError: ``output`` is one file for several videos, or its suffix is not allowed.
    """
    is_folder = output is not None and is_output_folder(output)
    if output is not None and not is_folder:
        if len(videos) > 1:
            raise UsageError(
                f"several inputs, one output file {output}",
                hint="specify a folder, as in -o results/",
            )
        if allowed_suffixes:
            check_suffix(output, allowed_suffixes)
    roots = _find_input_folders(inputs) if is_folder else set()
    results: list[list[Path]] = []
    for video in videos:
        if output is not None and not is_folder:
            path = output
        else:
            suffix = default_suffix(video) if callable(default_suffix) else default_suffix
            name = video.stem + suffix
            path = output / _subfolder(video, roots) / name if output else video.with_name(name)
        takes = range(1, n_takes + 1)
        results.append([path] if n_takes == 1 else [_numbered_path(path, k) for k in takes])
    return results


def _find_input_folders(names: Sequence[str]) -> set[Path]:
    """Return the folders among the arguments and in list files."""
    files = find_list_files(names)
    paths = [Path(name) for name in names if not _is_list_argument(name)]
    paths += [path for file in files for path in _read_list_file(file)]
    return {path for path in paths if os.path.isdir(path)}


def _subfolder(video: Path, roots: Collection[Path]) -> Path:
    """Return the folder of a video relative to the uppermost of the folders that contain it."""
    for root in reversed(video.parents):
        subfolder = video.relative_to(root).parent
        if root in roots and ".." not in subfolder.parts:
            return Path("" if len(roots) == 1 else os.path.abspath(root)).name / subfolder
    return Path()


def find_conflicts(
    videos: Sequence[Path], outputs: Sequence[Sequence[Path]]
) -> dict[Path, UsageError]:
    """Return an error for each video that would have an output path of another.

    Args:
        videos: input files.
        outputs: output paths of each video.
    """
    users: dict[str, list[Path]] = {}
    for video, paths in zip(videos, outputs, strict=True):
        for path in paths:
            users.setdefault(os.path.realpath(path), []).append(video)
    conflicts: dict[Path, UsageError] = {}
    for target, (first, *others) in users.items():
        if others:
            message = f"{first} and {others[0]} would both be written to {Path(target).name}"
            hint = "rename one of them, or process them in separate runs"
            conflicts |= dict.fromkeys((first, *others), UsageError(message, hint=hint))
    return conflicts


def make_parent_folders(paths: Iterable[Path], output: Path | None) -> None:
    """Create the folders of output paths below the folder given by ``-o``.

    Raises:
        OutputError: a folder cannot be created.
    """
    for path in paths:
        if output is not None and output in path.parent.parents:
            with output_errors(path.parent):
                path.parent.mkdir(parents=True, exist_ok=True)


def check_suffix(path: Path, suffixes: Collection[str]) -> None:
    """Check that an output path has the suffix of a supported format.

    Raises:
        UsageError: it has another suffix or none.
    """
    if path.suffix.lower() not in suffixes:
        ending = f"unsupported output format {path.suffix}" if path.suffix else "no suffix"
        raise UsageError(f"{path}: {ending}", hint="use one of " + ", ".join(suffixes))


def _numbered_path(path: Path, take: int) -> Path:
    """Return the path of a numbered take: ``a-1.loris.mp4`` for ``a.loris.mp4``."""
    bare = path.name.removesuffix(path.suffix).removesuffix(".loris")
    return path.with_name(f"{bare}-{take}{path.name[len(bare) :]}")


def check_single_input(option: str, n_inputs: int) -> None:
    """Check that an option for a single input is not used with several.

    Raises:
        UsageError: there is more than one input.
    """
    if n_inputs > 1:
        raise UsageError(f"{option} needs a single input, got {n_inputs}", hint="remove it")
