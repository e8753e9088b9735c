"""The metadata is in pyproject.toml; this only puts the rules and samples of scripts/ inside the built package."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SCRIPTS = ("*.py", "*.lua", "tests/*.py", "samples/*.py", "samples/lua/*.lua")


class BuildWithScripts(build_py):
    """`smtpproxy init`, `try` and `rules add` copy these rules; in a checkout they stand beside the package."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, "smtpproxy")
        for script in sorted(found for pattern in SCRIPTS for found in Path("scripts").glob(pattern)):
            self.mkpath(str((target / script).parent))
            self.copy_file(str(script), str(target / script))


setup(cmdclass={"build_py": BuildWithScripts})
