"""`make deb`: the package is built, unpacked, and what is inside runs; so does what the container file says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from smtpproxy import __version__
from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.waiting import until

ROOT = Path(__file__).parents[2]
LISTENING = re.compile(r"listening on 127\.0\.0\.1:(\d+)")

pytestmark = pytest.mark.timeout(600)


def run(*words: object, **more: object) -> str:
    command = [str(word) for word in words]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **more)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout
    return str(done.stdout)


def ends_after_serving(program: list[object], folder: Path) -> int:
    """Start it, be greeted, and end it; its exit status."""
    with (folder / "printed").open("wb") as printed:
        process = subprocess.Popen([str(word) for word in program], stdout=printed, stderr=printed)
    try:
        found = until(lambda: LISTENING.search((folder / "printed").read_text()), 30, "listening")
        with FakeClient.greeted(int(found[1])) as client:
            assert client.send("QUIT").code == 221
    finally:
        process.terminate()
        status = process.wait(20)
    return status


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deb")
    run("sh", ROOT / "packaging/deb/build.sh", Path(sys.executable).with_name("pip"), folder)
    (package,) = folder.glob("smtpproxy_*.deb")
    run("dpkg-deb", "-x", package, folder / "root")
    run("dpkg-deb", "-e", package, folder / "control")
    return folder


def test_what_the_package_holds(unpacked: Path) -> None:
    control = (unpacked / "control/control").read_text()
    assert f"Version: {__version__}\n" in control
    root = unpacked / "root"
    assert (root / "lib/systemd/system/smtpproxy.service").read_text() == (ROOT / "packaging/smtpproxy.service").read_text()
    assert (root / "usr/bin/smtpproxy").resolve() == (root / "usr/lib/smtpproxy/bin/smtpproxy").resolve()
    listed = (unpacked / "control/conffiles").read_text().split()
    assert "/etc/smtpproxy/smtpproxy.toml" in listed and all((root / file.lstrip("/")).is_file() for file in listed)
    named = [path for path in root.rglob("*") if path.suffix in {".py", ".cfg", ".toml", ""} and path.is_file()]
    assert not [path for path in named if str(ROOT).encode() in path.read_bytes()]


def test_it_says_its_version_and_takes_its_own_configuration(unpacked: Path, tmp_path: Path) -> None:
    python = unpacked / "root/usr/lib/smtpproxy/bin/python3"
    config = unpacked / "root/etc/smtpproxy"
    assert run(python, "-m", "smtpproxy", "--version", cwd="/").startswith("smtpproxy ")
    assert 'data = "/var/lib/smtpproxy"' in (config / "smtpproxy.toml").read_text()
    for name, old, new in (
        ("smtpproxy.toml", "/var/lib/smtpproxy", str(tmp_path / "data")),
        ("listeners.toml", "127.0.0.1:2525", "127.0.0.1:0"),
    ):
        text = (config / name).read_text()
        assert old in text
        (config / name).write_text(text.replace(old, new))
    run(python, "-m", "smtpproxy", "check", config, cwd="/")
    assert ends_after_serving([python, "-m", "smtpproxy", "serve", "--config", config], tmp_path) == 0


@pytest.mark.parametrize("script", ["postinst", "prerm", "postrm"])
def test_the_scripts_of_the_package_are_shell(unpacked: Path, script: str) -> None:
    assert run("sh", "-n", unpacked / "control" / script) == ""
    assert (unpacked / "control" / script).stat().st_mode & 0o111


# -- the container -------------------------------------------------------------------------------------------------------

INSTRUCTIONS = {
    "FROM", "COPY", "RUN", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD",
}  # fmt: skip
CONTAINERFILE = [
    line.split(" ", 1) for line in (ROOT / "packaging/Containerfile").read_text().splitlines() if line and line[0] != "#"
]


def instructions(name: str) -> list[str]:
    return [rest for word, rest in CONTAINERFILE if word == name]


def test_the_container_file_is_one() -> None:
    assert {word for word, _ in CONTAINERFILE} == INSTRUCTIONS
    assert instructions("USER") == ["smtpproxy"]
    for rest in instructions("COPY"):
        *sources, _ = rest.split()
        for source in sources:
            assert source.startswith("--from=") or source.startswith("/") or (ROOT / source).exists()


def test_the_steps_of_the_container_file_make_a_server(tmp_path: Path) -> None:
    """Its steps, with their folders below one of ours, then its command and its health check."""

    def here(text: str) -> str:
        text = re.sub(r"/(opt/smtpproxy|src|etc/smtpproxy|var/lib/smtpproxy)\b", rf"{tmp_path}/\1", text)
        return text.replace("0.0.0.0:2525", "127.0.0.1:0")

    for rest in instructions("COPY"):
        *sources, target = rest.split()
        if not sources[0].startswith("--from="):
            place = Path(here(target))
            place.parent.mkdir(parents=True, exist_ok=True)
            if target.endswith("/"):
                place.mkdir(exist_ok=True)
            run("cp", "-r", *(ROOT / source for source in sources), place)
    for step in instructions("RUN"):
        if not step.startswith("useradd"):
            (tmp_path / "etc").mkdir(exist_ok=True)
            run("sh", "-c", here(step))
    words = [shlex.split(here(rest).strip("[]").replace(",", " ")) for rest in instructions("ENTRYPOINT") + instructions("CMD")]
    assert ends_after_serving([word for part in words for word in part], tmp_path) == 0
