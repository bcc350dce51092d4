"""What the README and the pages name exists: links with their anchors, targets of make, experiments, files."""

import configparser
import re
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
FOLDERS = "benchmarks|ddpm_lab|docs|experiments|registry|tests"
TO_BE_WRITTEN = {"registry/losses/cauchy.py"}  # by the reader of adding-a-part.md
each_page = pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])


def _prose(page: Path) -> str:
    """The page without its code, where brackets are no links."""
    return re.sub(r"```.*?```|`[^`\n]*`", "`code`", page.read_text(), flags=re.S)


def _code(page: Path) -> str:
    return "\n".join(re.findall(r"```.*?```|`[^`\n]*`", page.read_text(), re.S))


def _anchors(page: Path) -> set[str]:
    """The headings as GitHub's anchors: lower case, a dash for each space, other punctuation gone."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.S), re.M)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def _linked(page: Path) -> list[tuple[Path, str]]:
    """The files that a page links to, and the anchors in them."""
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", _prose(page)) if not re.match(r"[a-z]+:", link)]
    return [((page.parent / name).resolve() if name else page, anchor) for name, _, anchor in (x.partition("#") for x in links)]


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for file, anchor in _linked(page):
        assert file.exists(), file
        assert not anchor or anchor in _anchors(file), f"{file.name}#{anchor}"


@each_page
def test_commands_and_what_they_are_given_exist(page: Path) -> None:
    code = _code(page)
    for target in re.findall(r"\bmake ([a-z][a-z-]*)", code):
        assert target in TARGETS, f"make {target}"
    for variable, folder in (("EXP", "experiments"), ("SWEEP", "experiments/sweeps"), ("SUITE", "benchmarks/suites")):
        for name in re.findall(rf"\b{variable}=(\w+)", code):
            assert (ROOT / folder / f"{name}.yaml").is_file(), f"{variable}={name}"


@each_page
def test_files_that_are_named_exist(page: Path) -> None:
    code = _code(page)
    for name in set(re.findall(rf"(?<![\w./])(?:{FOLDERS})/[\w./]+\w(?![\w/]*[<*])", code)):
        assert (ROOT / name).exists() or name in TO_BE_WRITTEN, name
    for name in set(re.findall(r"\btest_\w+\.py", code)):
        assert list((ROOT / "tests").rglob(name)), name


def test_the_readme_is_short_opens_every_page_and_has_every_experiment() -> None:
    text = PAGES[0].read_text()
    assert len(text.splitlines()) <= 150
    assert {file for file, _ in _linked(PAGES[0])} >= {page for page in PAGES if page.name != "README.md"}
    table = text.split("| experiment | what it is |")[1].split("\n\n")[0]
    named = {name for row in table.splitlines() for name in re.findall(r"`(\w+)`", "".join(row.split("|")[1:2]))}
    assert named == {file.stem for file in (ROOT / "experiments").glob("*.yaml")} - {"base"}


def test_contributing_lists_the_packages_in_the_order_of_the_import_contract() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    table = (ROOT / "CONTRIBUTING.md").read_text().split("| package | what it holds |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.M) == setup["importlinter:contract:layers"]["layers"].split()[::-1]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == setup["metadata"]["version"]
