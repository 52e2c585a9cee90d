"""From what a user names to the files that are read and written.

names, folders, @lists -> videos -> one place for each result
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from loris_cli.errors import InputError, UsageError
from loris_cli.files import printable

VIDEO_SUFFIXES = frozenset(
    ".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .m2ts .wmv .flv .3gp".split()
)
"""What is taken out of a folder; a file that is named is tried whatever its name."""

MAX_LIST_BYTES = 64 << 20


def expand(names: Sequence[str]) -> list[Path]:
    """The videos that names stand for, each once, in the order given.

    Args:
        names: files; folders, looked through with all below them; ``@list.txt``, a file of
            one name a line (UTF-8, blank lines and lines that begin with ``#`` are
            skipped, relative names count from the list's folder).

    Raises:
        InputError: a folder holds no video, or a list cannot be read.
        UsageError: nothing is named.
    """
    seen: dict[str, Path] = {}
    for path in _each(names):
        seen.setdefault(os.path.realpath(path), path)
    if not seen:
        raise UsageError("no input is named", hint="name videos, folders or @list.txt")
    return list(seen.values())


def _each(names: Sequence[str]) -> Iterator[Path]:
    for name in names:
        if name.startswith("@") and not Path(name).exists():
            yield from _listed(Path(name[1:]))
        elif Path(name).is_dir():
            yield from _in_folder(Path(name))
        else:
            yield Path(name)


def _listed(path: Path) -> Iterator[Path]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_LIST_BYTES + 1)
        text = content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"the list {printable(path)} cannot be read", hint="a list is a UTF-8 text file"
        ) from error
    if len(content) > MAX_LIST_BYTES:
        raise InputError(f"the list {printable(path)} is too long", hint="split it")
    for line in text.splitlines():
        entry = line.strip()
        if entry and not entry.startswith("#"):
            target = path.parent / entry
            yield from _in_folder(target) if target.is_dir() else iter([target])


def _in_folder(folder: Path) -> Iterator[Path]:
    """Videos below a folder by name; links to folders are not followed, so there is no loop.

    Our own results are left out, or a second run would make soundtracks of them.
    """
    found = sorted(
        Path(place, name)
        for place, _, files in os.walk(folder)
        for name in files
        if Path(name).suffix.lower() in VIDEO_SUFFIXES
        and not name.startswith(".")
        and ".loris" not in Path(name).suffixes[:-1]
    )
    if not found:
        raise InputError(
            f"no video in the folder {printable(folder)}",
            hint="looked for " + " ".join(sorted(VIDEO_SUFFIXES)),
        )
    yield from found


def result_names(
    videos: Sequence[Path], out: Path | None, *, suffix: str, takes: int = 1
) -> list[list[Path]]:
    """Where the results of each video belong.

    Args:
        videos: inputs.
        out: None, a file for one input, or a folder for many.
        suffix: of the name of a result where ``out`` does not say, with what stands before
            the dot, e.g. ``".loris.mp4"``; ``"{}"`` in it is the input's own suffix.
        takes: results for each; more than one are numbered from 1.

    Returns:
        for each video as many names as takes.

    Raises:
        UsageError: two videos of one stem would share a result, or many are to go into a file.
    """
    is_folder = out is not None and (out.is_dir() or str(out).endswith(os.sep))
    if out is not None and not is_folder and len(videos) > 1:
        raise UsageError(
            f"{len(videos)} inputs and one output, {printable(out)}",
            hint="-o names a folder that exists when there are several inputs",
        )
    results: list[list[Path]] = []
    taken: dict[str, Path] = {}
    for video in videos:
        ending = suffix.format(video.suffix.lower())
        if out is None:
            first = video.with_name(video.stem + ending)
        elif is_folder:
            first = out / (video.stem + ending)
        else:
            first = out
        names = (
            [first] if takes == 1 else [_numbered(first, take) for take in range(1, takes + 1)]
        )
        for name in names:
            place = os.path.realpath(name)
            if place in taken:
                raise UsageError(
                    f"{printable(taken[place])} and {printable(video)} have one name,"
                    f" so both results would be {printable(name.name)}",
                    hint="rename one of them, or make them one after the other",
                )
            taken[place] = video
        results.append(names)
    return results


def _numbered(path: Path, take: int) -> Path:
    stem, marks = path.name, ""
    while Path(stem).suffix in (path.suffix, ".loris"):
        marks = Path(stem).suffix + marks
        stem = Path(stem).stem
    return path.with_name(f"{stem}-{take}{marks}")
