import base64
import hashlib
import io
import tarfile

import pytest

from reverie.data import packages
from reverie.data.packages import Package, fetch, provide, unpack

FILES = {
    "package/art/1f600.png": b"face",
    "package/art/deep/1f601.png": b"grin",
    "package/README.md": b"no",
    "x/LICENSE": b"MIT",
}
KEPT = {"art/1f600.png": b"face", "art/deep/1f601.png": b"grin", "LICENSE": b"MIT"}


def packed(folder, files=FILES, extra=(), sha512=None):
    """A package, and its file as `npm pack` makes it."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra:
            archive.addfile(info)
    sha512 = sha512 or base64.b64encode(hashlib.sha512(data.getvalue()).digest()).decode()
    package = Package("@some/art", "1.2.0", sha512, 1, ("art", "LICENSE"))
    (folder / package.file).write_bytes(data.getvalue())
    return package


def unpacked(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No npm, and no network."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def unreachable(url, timeout):
        raise OSError("no network")

    monkeypatch.setattr(packages.urllib.request, "urlopen", unreachable)


def npm(tmp_path, script):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "npm").write_text("#!/bin/sh\n" + script)
    (tmp_path / "bin" / "npm").chmod(0o755)


def test_what_is_kept_of_a_package_is_unpacked_once(tmp_path, cache):
    package = packed(tmp_path)
    assert package.file == "some-art-1.2.0.tgz"
    home = provide(package, [tmp_path])
    assert home.parent == cache / "packages"
    assert unpacked(home) == KEPT
    (tmp_path / package.file).unlink()
    assert provide(package) == home
    assert [p.name for p in home.parent.iterdir()] == [home.name]


@pytest.mark.parametrize("place", ["@some/art", "node_modules/@some/art"])
def test_a_package_that_is_unpacked_already_is_taken_as_it_is(tmp_path, place):
    (tmp_path / place).mkdir(parents=True)
    assert provide(packed(tmp_path), [tmp_path / "elsewhere", tmp_path]) == tmp_path / place


def test_a_file_that_is_not_the_one_named_in_the_code_is_refused(tmp_path, cache):
    package = packed(tmp_path)
    file = tmp_path / package.file
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"is not the npm package @some/art@1\.2\.0: its SHA-512 is"):
        provide(package, [tmp_path])
    assert not list((cache / "packages").glob("*"))


def link(kind):
    info = tarfile.TarInfo("package/art/link")
    info.type, info.linkname = kind, "../../../secret"
    return info


@pytest.mark.parametrize(
    "name", ["package/../../out", "/out", "package/art/../../../out", "..\\out", "package/art/C:out"]
)
def test_names_that_lead_out_of_the_package_are_refused(tmp_path, cache, name):
    package = packed(tmp_path, {**FILES, name: b"evil"})
    with pytest.raises(ValueError, match="leads out of the package"):
        provide(package, [tmp_path])
    assert not list((cache / "packages").glob("*"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_what_is_no_regular_file_is_refused(tmp_path, kind):
    with pytest.raises(ValueError, match="'package/art/link' is not a regular file"):
        provide(packed(tmp_path, extra=[link(kind)]), [tmp_path])


@pytest.mark.parametrize(("limit", "value"), [("LARGEST", 3), ("MOST_BYTES", 12), ("MOST_FILES", 3)])
def test_more_than_a_package_may_hold_is_refused(tmp_path, monkeypatch, limit, value):
    package = packed(tmp_path)  # four files of 4, 4, 2 and 3 bytes
    monkeypatch.setattr(packages, limit, value + 1)
    provide(package, [tmp_path]).rename(tmp_path / "fine")
    monkeypatch.setattr(packages, limit, value)
    with pytest.raises(ValueError, match="more than a package of pictures may hold"):
        provide(package, [tmp_path])


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"no archive at all"])
def test_a_damaged_archive_is_named(tmp_path, damage):
    package = packed(tmp_path)
    data = damage((tmp_path / package.file).read_bytes())
    (tmp_path / package.file).write_bytes(data)
    sha512 = base64.b64encode(hashlib.sha512(data).digest()).decode()
    with pytest.raises(ValueError, match=r"some-art-1\.2\.0\.tgz is damaged"):
        provide(Package(package.name, package.version, sha512, 1, package.kept), [tmp_path])


def test_another_process_may_be_quicker(tmp_path, monkeypatch):
    package, home = packed(tmp_path), tmp_path / "home"
    extract = packages._extract

    def slowly(path, kept, into):
        extract(path, kept, into)
        (home / "theirs").mkdir(parents=True)

    monkeypatch.setattr(packages, "_extract", slowly)
    assert unpack(tmp_path / package.file, package, home) == home
    assert (home / "theirs").is_dir()


def test_npm_brings_a_package_where_there_is_npm(tmp_path):
    package = packed(tmp_path)
    npm(tmp_path, f'test "$1 $2 $3" = "pack @some/art@1.2.0 --pack-destination" && /bin/cp {tmp_path}/*.tgz "$4"')
    assert unpacked(provide(package)) == KEPT


def test_the_registry_brings_it_where_there_is_none_or_it_fails(tmp_path, monkeypatch):
    package = packed(tmp_path)
    asked = []

    def answer(url, timeout):
        asked.append(url)
        return io.BytesIO((tmp_path / package.file).read_bytes())

    monkeypatch.setattr(packages.urllib.request, "urlopen", answer)
    npm(tmp_path, "exit 1")
    assert unpacked(provide(package)) == KEPT
    assert asked == ["https://registry.npmjs.org/@some/art/-/art-1.2.0.tgz"]
    monkeypatch.setattr(packages, "MOST_BYTES", 10)
    with pytest.raises(ValueError, match="is longer than 10 bytes"):
        fetch(package, tmp_path)


def test_where_nothing_leads_to_it_both_reasons_and_the_remedy_are_told(tmp_path):
    npm(tmp_path, "echo npm warn old >&2; echo 'npm error code   E404' >&2; exit 1")
    with pytest.raises(ValueError, match="cannot be fetched") as error:
        provide(packed(tmp_path))
    assert str(error.value) == (
        "the npm package @some/art@1.2.0 cannot be fetched (npm: npm error code E404; no network); where there is a "
        "network, run npm pack @some/art@1.2.0, and write data.path=FOLDER with the folder of the file it makes"
    )
