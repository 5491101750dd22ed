"""What every test shares: golden texts, one C simulation cache, one thread, data sets that may be there."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# Before numpy or torch are imported: a second thread under load makes small networks ten times slower.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent

# A busy machine is no failure; in CI the same examples every time.
settings.register_profile("codesign", deadline=None, derandomize="CI" in os.environ, print_blob=True)
settings.load_profile("codesign")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files")


def pytest_configure(config: pytest.Config) -> None:
    """Give the session one cache of compiled simulations; xdist's workers inherit the variable.

    They also get COLUMNS=80, which would fold the tables that the tests read.
    """
    os.environ.pop("COLUMNS", None)
    os.environ.setdefault("CODESIGN_CACHE", str(config.rootpath / ".pytest_cache" / "csim"))


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Compare text with tests/golden/<module>/<test>.<suffix>; `--update-golden` writes it.

    Two texts in one test need different suffixes.
    """

    def check(text: str, suffix: str = "txt") -> None:
        module = Path(str(request.node.path)).stem
        name = re.sub(r"[^\w.-]+", "_", request.node.name).strip("_")
        path = TESTS / "golden" / module / f"{name}.{suffix}"
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        where = path.relative_to(ROOT)
        assert path.exists(), f"no {where}: run pytest --update-golden and read the diff"
        assert text == path.read_text(encoding="utf-8"), f"differs from {where}"

    return check


@pytest.fixture(scope="session")
def bccd() -> Path:
    """The BCCD blood cell data set (Pascal VOC layout): CODESIGN_BCCD, else ../shared/data/bccd."""
    path = Path(os.environ.get("CODESIGN_BCCD", ROOT.parent / "shared" / "data" / "bccd"))
    if not (path / "ImageSets" / "Main").is_dir():
        pytest.skip("the BCCD data set is not here: point CODESIGN_BCCD at its folder")
    return path
