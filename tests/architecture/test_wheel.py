"""What an installation from a wheel has: an editable one finds every file of the tree, whatever setup.cfg says."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {"rules_engine": "rules_engine", "grammar": "rules_engine_grammar", "plugins": "rules_engine_plugins"}


def test_a_wheel_has_every_file_of_the_packages(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    rest = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tree / folder, ignore=rest)
    for name in ("setup.cfg", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tree)
    wanted = {
        "/".join((package, *path.relative_to(tree / folder).parts))
        for folder, package in FOLDERS.items()
        for path in (tree / folder).rglob("*")
        if path.is_file()
    }
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(tree)]
    for more in (["--no-build-isolation", "--no-index"], []):  # the setuptools that is here, else one from the index
        done = subprocess.run([*command, *more], capture_output=True, text=True, timeout=120)
        if done.returncode == 0:
            break
    else:
        pytest.skip(f"THE WHEEL WAS NOT LOOKED AT: pip can't build here: {done.stderr[-300:]}")
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        assert sorted(wanted - {*wheel.namelist()}) == []
