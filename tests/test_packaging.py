"""pyproject.toml, constraints.txt, environment.yml and the licence files say the same thing."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import vaelab
from vaelab import check

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}


def wanted(*groups):
    """{package: bounds} of lists of requirements, without the references from extra to extra."""
    requirements = [Requirement(text) for group in groups for text in group]
    return {r.name: r.specifier for r in requirements if r.name != PROJECT["name"]}


def environment(text):
    """{package: bounds} of the conda part and of the pip part of an environment.yml."""
    listed = yaml.safe_load(text)["dependencies"]
    [pip] = [entry["pip"] for entry in listed if isinstance(entry, dict)]
    conda = [entry.replace(" ", "") for entry in listed if isinstance(entry, str)]
    names = {conda_name: name for name, conda_name in CONDA_NAMES.items()}
    have = {names.get(r.name, r.name): r.specifier for r in map(Requirement, conda)}
    assert pip[-1] == "-e ." and have.pop("pip") == Requirement("pip").specifier
    return have, wanted(pip[:-1])


def differences(text):
    conda, pip = environment(text)
    everything = wanted(PROJECT["dependencies"], *EXTRAS.values()) | wanted(
        [f"python{PROJECT['requires-python']}"]
    )
    have = conda | pip
    return {name for name in everything | have if everything.get(name) != have.get(name)} | (
        conda.keys() & pip.keys()
    )


def test_environment_holds_the_library_and_every_extra():
    assert differences((ROOT / "environment.yml").read_text()) == set()


@pytest.mark.parametrize(
    ("old", "new", "caught"),
    [
        ("pytorch >=2.6,<3", "pytorch >=2.5,<3", "torch"),
        ("  - sphinx-exercise >=1.0,<2\n", "", "sphinx-exercise"),
        ("nbval==0.11.*", "nbval==0.10.*", "nbval"),
        ("python >=3.11,<3.14", "python >=3.11", "python"),
        ("      - playwright>=1.48,<2\n", "", "playwright"),
    ],
)
def test_a_step_out_of_line_is_seen(old, new, caught):
    text = (ROOT / "environment.yml").read_text()
    assert old in text and differences(text.replace(old, new)) == {caught}


def test_one_bound_per_package():
    seen = {}
    for requirement in [
        Requirement(t) for group in [PROJECT["dependencies"], *EXTRAS.values()] for t in group
    ]:
        assert seen.setdefault(requirement.name, requirement.specifier) == requirement.specifier


def constraints():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    return {r.name: r.specifier for r in map(Requirement, lines)}


def test_constraints_are_exact_versions_and_nothing_else():
    """No host, no path, no local build of one machine: a name and a version each."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines and [line for line in lines if not re.fullmatch(r"[a-z0-9._-]+==[a-z0-9.]+", line)] == []


def test_constraints_cover_and_satisfy_every_requirement():
    pinned = constraints()
    for name, bounds in wanted(PROJECT["dependencies"], *EXTRAS.values()).items():
        [pin] = pinned[name]
        assert bounds.contains(pin.version), f"{name}: {pin} is outside {bounds}"
    assert str(pinned["torch"]) == "==2.13.0"


def test_constraints_fit_the_first_release_of_every_python():
    """Debian 12 has 3.11.2. Read from what is installed here, where it is the pinned version."""
    for name, pin in constraints().items():
        if str(pin) == f"=={check.version_of(name)}":
            bounds = SpecifierSet(metadata.metadata(name)["Requires-Python"] or "")
            refused = [python for python in ("3.11.0", "3.12.0", "3.13.0") if python not in bounds]
            assert not refused, f"{name}{pin} refuses Python {refused}"


def test_the_books_tools_bring_no_torch():
    """`./lab book` installs this list without the library."""
    assert not wanted(EXTRAS["book"]).keys() & (wanted(PROJECT["dependencies"]).keys() | {"vaelab"})


def test_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"] == vaelab.__version__
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["license"] == PROJECT["license"]


def test_licences():
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")
    assert "creativecommons.org/licenses/by/4.0/legalcode" in (ROOT / "LICENSE-content").read_text()


def test_no_lock_file_and_no_credentials_of_one_machine():
    assert not (ROOT / "uv.lock").exists()
    text = "".join(
        (ROOT / name).read_text() for name in ("pyproject.toml", "environment.yml", "constraints.txt")
    )
    assert not re.search(r"https?://|file:|/opt/|/home/", text)


def test_ci_runs_every_check_without_private_data():
    text = (ROOT / ".ci" / "run").read_text()
    assert "unset VAELAB_DATA" in text and "export CI=true" in text and "./lab test" in text
