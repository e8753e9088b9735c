"""The metadata is in pyproject.toml; this only puts the harmless rules of scripts/ inside the built package."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithScripts(build_py):
    """`smtpproxy init` and `smtpproxy try` copy these rules; in a checkout they stand beside the package."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for pattern in ("*.py", "*.lua", "tests/*.py"):
            for script in sorted(Path("scripts").glob(pattern)):
                target = Path(self.build_lib, "smtpproxy", script)
                self.mkpath(str(target.parent))
                self.copy_file(str(script), str(target))


setup(cmdclass={"build_py": BuildWithScripts})
