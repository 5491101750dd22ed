"""The repository as a newcomer meets it: files in place, a README that tells the truth, licences, no traces."""

import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKE_TARGETS = set(
    re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
)
CODE = "\n".join(re.findall(r"^```[a-z]*\n(.*?)^```", README, re.MULTILINE | re.DOTALL))


def tracked() -> list[Path]:
    git = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if git.returncode:
        pytest.skip("not a git checkout: there is no list of tracked files")
    return [ROOT / name for name in git.stdout.split("\0") if name and (ROOT / name).is_file()]


def texts() -> dict[str, str]:
    found = {}
    for path in tracked():
        if path.suffix not in (".onnx", ".png", ".jpg", ".safetensors", ".npz"):
            found[path.relative_to(ROOT).as_posix()] = path.read_text(encoding="utf-8")
    return found


def commands():
    """The verbs as parsers, by name."""
    import typer.main

    from codesign.cli import app

    return typer.main.get_command(app).commands


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
        "NOTICE",
        "Makefile",
        ".ci/run",
        "pyproject.toml",
    ]
    + ["codesign", "hls_templates", "quant", "boards", "notebooks", "tests", "docs/model-file.md"],
)
def test_files_are_in_place(name):
    assert (ROOT / name).exists()


def test_ci_can_be_executed():
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_contributing_is_one_page():
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) <= 60


def test_readme_make_targets_exist():
    named = set(re.findall(r"\bmake ([a-z][a-z-]+)", README))
    assert {"demo", "test", "bench"} <= named
    assert named <= MAKE_TARGETS


def test_every_verb_is_in_the_readme():
    assert set(re.findall(r"^codesign ([a-z]+)", CODE, re.MULTILINE)) == set(commands())


@pytest.mark.parametrize("line", re.findall(r"^codesign ([a-z]+[^#\n]*)", CODE, re.MULTILINE))
def test_readme_commands_are_understood(line):
    """Parsed as the program parses them, and not run."""
    verb, *arguments = line.split()
    commands()[verb].make_context(verb, arguments)


def test_links_lead_somewhere():
    broken = [
        f"{name}: {link}"
        for name, text in texts().items()
        if name.endswith(".md")
        for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text)
        if not ((ROOT / name).parent / link).exists()
    ]
    assert broken == []


def test_changelog_has_the_version():
    from codesign import __version__

    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert f'version = "{__version__}"' in (ROOT / "pyproject.toml").read_text()


def test_no_paths_of_one_machine_and_no_registry_hosts():
    hosts = (
        "pypi" + ".org",
        "python" + "hosted",
        "download." + "pytorch",
        "npm" + "js.org",
        "deb." + "debian",
    )
    pattern = re.compile(r"(?<![\w.$}~])/(?:work|tmp|root|home|Users)/\w|" + "|".join(map(re.escape, hosts)))
    found = [
        f"{name}:{number}"
        for name, text in texts().items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []


def test_skips_have_reasons_and_nothing_is_left_open():
    pattern = re.compile(
        r"mark\.skip\(\s*\)|mark\.skip\s*$|pytest\.skip\(\s*\)|#\s*(?:TO" + "DO|FIX" + "ME|XXX)"
    )
    found = [
        f"{name}:{number}"
        for name, text in texts().items()
        if name.endswith((".py", ".hpp", ".h", ".cpp"))
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []


# Installed with something we use, under copyleft, and not imported when our code runs but as said here.
KNOWN_COPYLEFT = {
    "tqdm",  # MPL-2.0 and MIT, required by optuna: of each file alone, and nothing here changes them
    "quantizers",  # LGPL-3.0, loaded by hls4ml, which codesign.hls4ml alone imports, when it is called
    "docutils",  # public domain and BSD; one file for Emacs is GPL; required by clize for qonnx
}


def closure(names: set[str]) -> set[str]:
    seen: set[str] = set()
    while names:
        name = names.pop()
        if name in seen:
            continue
        try:
            required = distribution(name).requires or []
        except PackageNotFoundError:
            continue  # an optional part of another platform or Python
        seen.add(name)
        for text in required:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                names.add(requirement.name.lower())
    return seen


def test_no_copyleft_at_run_time():
    from codesign.board import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["quant"]
    installed = closure({Requirement(text).name.lower() for text in wanted})
    assert len(installed) > 20, "the base and quant extras are installed where tests run"
    copyleft = set()
    for name in installed:
        meta = distribution(name).metadata
        declared = [meta.get("License-Expression") or "", *(meta.get_all("Classifier") or [])]
        if any(re.search(r"\b([AL]?GPL|MPL)", line) for line in declared):
            copyleft.add(name)
    assert copyleft <= KNOWN_COPYLEFT


@pytest.mark.slow
def test_the_wheel_is_complete(tmp_path):
    """What a stranger installs has every header, board, recipe and shipped model, and no tests."""
    source = tmp_path / "source"
    for path in tracked():
        target = source / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
    ]
    run = subprocess.run([*pip, str(source)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    (wheel,) = tmp_path.glob("*.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    packages = {"codesign", "quant", "boards", "hls_templates"}
    kinds = (".py", ".hpp", ".h", ".cpp", ".tcl", ".toml", ".onnx", ".json", ".png", ".jpg")
    wanted = {
        name
        for path in tracked()
        if (name := path.relative_to(ROOT).as_posix()).split("/")[0] in packages and name.endswith(kinds)
    }
    assert wanted - inside == set()
    assert {name.split("/")[0] for name in inside} == packages
