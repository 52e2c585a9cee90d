"""Links, line lengths and references of the documents, and references to them in the code."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")])
SOURCES = sorted(
    path
    for folder in ("loris_cli", "commands", "experiments", "benchmarks", "tools", "tests")
    for path in (ROOT / folder).rglob("*.py")
)
MAX_LINE_LENGTH = 100


def relative_name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def list_heading_anchors(page: Path) -> set[str]:
    """Return the anchors that a Markdown renderer gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=relative_name)
def test_links_of_a_page_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), target
        assert not anchor or anchor in list_heading_anchors(linked), target


@pytest.mark.parametrize("page", PAGES, ids=relative_name)
def test_lines_of_a_page_are_short(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if len(line) > MAX_LINE_LENGTH]


def list_difference_ids() -> set[str]:
    text = (ROOT / "docs/differences.md").read_text(encoding="utf-8")
    return set(re.findall(r"^- \*\*([A-Z]{1,2}\d+)[,.]", text, re.MULTILINE))


def test_references_to_differences_resolve() -> None:
    known = list_difference_ids()
    pattern = r"differences\.md[`)]*(?:,| and)?([ \n#]+[A-Z]{1,2}\d+[^.;)]*)"
    cited = {
        (relative_name(path), reference)
        for path in [*SOURCES, *PAGES]
        for references in re.findall(pattern, path.read_text(encoding="utf-8"))
        for reference in re.findall(r"\b[A-Z]{1,2}\d+\b", references)
    }
    assert len(cited) > 20
    assert not {(name, reference) for name, reference in cited if reference not in known}


def test_documents_named_in_the_code_exist() -> None:
    missing = {
        (relative_name(path), page)
        for path in SOURCES
        for page in re.findall(r"\bdocs/[\w/-]+\.md\b", path.read_text(encoding="utf-8"))
        if not (ROOT / page).exists()
    }
    assert not missing
