"""Mutation test of the media readers and the mux: ``fuzz_media.py [--only mp4:truncation:17]``.

Small valid videos are damaged in reproducible ways (`fuzz_mutations.py`). Worker processes with
limits of time and memory probe, decode and mux each file (`fuzz_worker.py`). A result or a
`LorisError` is correct. A signal, a traceback, a time-out, falling times, or changed
video packets are findings. Exits with 1 if there is one.
"""

import argparse
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fuzz_mutations import CONTAINERS, MUTATIONS, mutate, write_corpus
from fuzz_worker import write_audio
from tabulate import tabulate

SEEDS_PER_MUTATION = 25
CASE_TIMEOUT_S = 60.0
START_TIMEOUT_S = 120.0
WORKER = Path(__file__).with_name("fuzz_worker.py")


@dataclass(frozen=True)
class Outcome:
    """Exit code and problems of one case."""

    name: str
    exit_code: int
    problems: tuple[str, ...] = ()
    seconds: float = 0.0


def list_cases(
    containers: Sequence[str] = tuple(CONTAINERS), *, n_seeds: int = SEEDS_PER_MUTATION
) -> list[str]:
    """Return the names of the cases, ``container:mutation:seed``."""
    return [
        f"{container}:{mutation}:{seed}"
        for container in containers
        for mutation in MUTATIONS
        for seed in range(n_seeds)
    ]


def run_cases(
    names: Sequence[str], sources: Mapping[str, Path], *, timeout_s: float = CASE_TIMEOUT_S
) -> Iterator[Outcome]:
    """Run cases in a worker process, and in another one after a crash or a time-out.

    Args:
        names: names of the cases.
        sources: valid file of each container.
        timeout_s: limit of one case.

    Yields:
        Outcomes in the order of the cases.
    """
    remaining = list(names)
    while remaining:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            write_audio(Path(folder))
            task = [folder, {key: str(path) for key, path in sources.items()}, remaining]
            n_done = 0
            for outcome in _run_worker(json.dumps(task), remaining, timeout_s):
                n_done += 1
                yield outcome
        remaining = remaining[n_done:]


def _run_worker(task: str, names: Sequence[str], timeout_s: float) -> Iterator[Outcome]:
    """Yield the outcomes of one worker process, the last one of a case that ended it."""
    with tempfile.TemporaryFile() as log:
        worker = subprocess.Popen(
            [sys.executable, str(WORKER)],
            env={**os.environ, "PYTHONSAFEPATH": ""},  # the worker imports its neighbours
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        assert worker.stdin is not None
        assert worker.stdout is not None
        lines: queue.Queue[str] = queue.Queue()
        reader = threading.Thread(target=_read_lines, args=(worker.stdout, lines), daemon=True)
        reader.start()
        worker.stdin.write(task)
        worker.stdin.close()
        n_done, begin_s, limit_s = 0, time.monotonic(), START_TIMEOUT_S
        try:
            while n_done < len(names):
                line = lines.get(timeout=limit_s)
                if not line:
                    log.seek(0)
                    last = log.read().decode(errors="replace").strip().rsplit("\n", 1)[-1]
                    problem = f"worker ended with {worker.wait()}: {last}"
                    yield Outcome(names[n_done], -1, (problem,))
                    return
                report = json.loads(line)
                limit_s = timeout_s
                if "begin" in report:
                    begin_s = time.monotonic()
                    continue
                seconds = time.monotonic() - begin_s
                problems = tuple(report["problems"])
                yield Outcome(report["end"], report["exit_code"], problems, seconds)
                n_done += 1
        except queue.Empty:
            yield Outcome(names[n_done], -1, (f"no result in {limit_s:g} s",), limit_s)
        finally:
            _kill_group(worker)


def _read_lines(stream: Iterator[str], lines: "queue.Queue[str]") -> None:
    for line in stream:
        lines.put(line)
    lines.put("")


def _kill_group(worker: "subprocess.Popen[str]") -> None:
    """Kill a worker and the ffmpeg that it runs."""
    if worker.poll() is None and hasattr(os, "killpg"):
        os.killpg(worker.pid, signal.SIGKILL)
    worker.kill()
    worker.wait()
    if worker.stdout is not None:
        worker.stdout.close()


def format_table(outcomes: Sequence[Outcome]) -> str:
    """Return a table of container x mutation: exit codes with their counts, and findings."""
    rows = []
    for container in dict.fromkeys(outcome.name.split(":")[0] for outcome in outcomes):
        row = [container]
        for mutation in [*MUTATIONS, ""]:
            prefix = f"{container}:{mutation}:" if mutation else f"{container}:"
            row.append(_count([o for o in outcomes if o.name.startswith(prefix)]))
        rows.append(row)
    rows.append(["all", *[""] * len(MUTATIONS), _count(outcomes)])
    return str(tabulate(rows, headers=["", *MUTATIONS, "all"], tablefmt="github"))


def _count(outcomes: Sequence[Outcome]) -> str:
    """Return the counts of exit code 0, 1 and 4, and of findings if there are any."""
    codes = Counter("x" if o.problems else str(o.exit_code) for o in outcomes)
    text = "/".join(str(codes[code]) for code in ("0", "1", "4"))
    return text + (f" {codes['x']} found" if codes["x"] else "")


def main() -> int:
    """Run the corpus and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", metavar="CASE", help="container[:mutation[:seed]]")
    parser.add_argument("--seeds", type=int, default=SEEDS_PER_MUTATION, help="per mutation")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="write the files of findings"
    )
    options = parser.parse_args()
    names = list_cases(n_seeds=options.seeds)
    if options.only:
        names = [name for name in names if f"{name}:".startswith(f"{options.only}:")]
        if options.only.count(":") == 2:
            names = [options.only]
    if not names or names[0].split(":")[0] not in CONTAINERS:
        parser.error(f"no such case: {options.only}")
    by_container: dict[str, list[str]] = {}
    for name in names:
        by_container.setdefault(name.split(":")[0], []).append(name)
    begin_s, outcomes = time.monotonic(), []
    with (
        tempfile.TemporaryDirectory(prefix="fuzz-corpus-") as folder,
        ThreadPoolExecutor(options.jobs) as pool,
    ):
        sources = write_corpus(Path(folder), list(by_container))
        run = partial(_run_container, sources=sources, keep=options.keep)
        for part in pool.map(run, by_container.values()):
            outcomes += part
    print(format_table(outcomes))
    slowest = max(outcomes, key=lambda outcome: outcome.seconds)
    print(f"cells: number of exit codes 0/1/4; {len(outcomes)} cases, ", end="")
    print(
        f"{time.monotonic() - begin_s:.0f} s, slowest {slowest.seconds:.1f} s ({slowest.name})"
    )
    return 1 if any(outcome.problems for outcome in outcomes) else 0


def _run_container(
    names: Sequence[str], sources: Mapping[str, Path], keep: Path | None
) -> list[Outcome]:
    outcomes = []
    for outcome in run_cases(names, sources):
        outcomes.append(outcome)
        if outcome.problems:
            print(f"{outcome.name}: {'; '.join(outcome.problems)}", flush=True)
            if keep is not None:
                container, mutation, seed = outcome.name.split(":")
                keep.mkdir(parents=True, exist_ok=True)
                path = keep / f"{container}-{mutation}-{seed}{sources[container].suffix}"
                path.write_bytes(mutate(sources[container], mutation, int(seed)))
    return outcomes


if __name__ == "__main__":
    sys.exit(main())
