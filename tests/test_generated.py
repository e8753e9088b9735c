"""What `make docs` writes is what stands in the repository."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGES: dict[Path, str] = generator().pages()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_generated_file_is_up_to_date(page: Path) -> None:
    assert page.read_text("utf-8") == PAGES[page], "run `make docs`"


def test_the_sample_has_no_other_files() -> None:
    assert set((ROOT / "config").iterdir()) == {page for page in PAGES if page.parent.name == "config"}
