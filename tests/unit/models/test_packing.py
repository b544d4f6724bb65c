"""A model as the bytes of an archive: the very model of the folder, and nothing else gets in."""

import io
import shutil
import stat
import struct
import zipfile
from pathlib import Path

import pytest

import cxml
from cxml.models import packing
from cxml.models.store import load_model
from cxml.scoring import pack

SHIPPED = Path(__file__).parents[3] / "models" / "telecom_demo"


@pytest.fixture(scope="module")
def packed():
    return pack(SHIPPED)


@pytest.fixture(scope="module")
def files(packed):
    return packing.unpack_files(packed)


def archive(files, compression=zipfile.ZIP_DEFLATED, attributes=None):
    """Make an archive of (name, content) pairs, as a stranger might."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", compression) as made:
        for name, content in files:
            info = zipfile.ZipInfo(name)
            info.compress_type = compression
            if attributes is not None:
                info.external_attr = attributes << 16
            made.writestr(info, content)
    return written.getvalue()


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_packed_model_is_the_model_of_the_folder(packed, kind):
    here, there = load_model(kind(packed)), load_model(SHIPPED)
    assert (here.version, here.plan, here.settings) == (there.version, there.plan, there.settings)
    assert [p.trees.text for p in here.targets.values()] == [p.trees.text for p in there.targets.values()]


def test_packing_gives_the_same_bytes_and_leaves_further_files_out(packed, tmp_path):
    copy = shutil.copytree(SHIPPED, tmp_path / "copy")
    (copy / "notes.txt").write_text("private")
    (copy / "card.md").touch()
    assert pack(copy) == packed


def test_a_damaged_folder_is_not_packed(tmp_path):
    copy = shutil.copytree(SHIPPED, tmp_path / "copy")
    (copy / "churn.txt").write_text("tree")
    with pytest.raises(cxml.DataError, match=r"churn\.txt.*SHA-256"):
        pack(copy)
    with pytest.raises(cxml.ConfigError, match="the folder is not there"):
        pack(tmp_path / "nothing")


def test_what_another_tool_zips_is_read_too(files):
    assert load_model(archive(files.items(), zipfile.ZIP_STORED)).version == load_model(SHIPPED).version


@pytest.mark.parametrize(
    "name",
    ["../model.json", "/etc/passwd", "telecom/model.json", "a\\b.txt", "C:model.json", "folder/", ".hidden.txt",
     "x.pkl", "", "." * 300],
)  # fmt: skip
def test_a_name_that_is_no_plain_one_is_refused(files, name):
    with pytest.raises(cxml.DataError, match="no plain name"):
        cxml.load(archive([*files.items(), (name, b"x")]))


def test_a_name_that_goes_on_behind_its_end_is_refused(files):
    content = archive([*files.items(), ("notes.md_exe", b"x")]).replace(b"notes.md_exe", b"notes.md\0exe")
    with pytest.raises(cxml.DataError, match="no plain name"):
        cxml.load(content)


def test_a_file_twice_is_refused(files):
    with pytest.warns(UserWarning, match="Duplicate"):
        content = archive([*files.items(), ("card.md", b"other")])
    with pytest.raises(cxml.DataError, match=r"'card\.md' twice"):
        cxml.load(content)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO])
def test_what_is_no_file_is_refused(files, kind):
    with pytest.raises(cxml.DataError, match="a link or another thing"):
        cxml.load(archive(files.items(), attributes=kind | 0o777))


def test_a_changed_file_is_refused_by_its_digest(files):
    changed = files | {"churn.txt": files["churn.txt"] + b"\n"}
    with pytest.raises(cxml.DataError, match=r"churn\.txt.*SHA-256"):
        cxml.load(archive(changed.items()))


def test_a_missing_file_and_a_missing_manifest_are_told(files):
    fewer = {name: content for name, content in files.items() if name != "churn.txt"}
    with pytest.raises(cxml.DataError, match=r"churn\.txt' is missing"):
        cxml.load(archive(fewer.items()))
    with pytest.raises(cxml.ConfigError, match=r"the archive holds no model\.json"):
        cxml.load(archive([("card.md", b"")]))


def test_a_bomb_is_refused_before_it_is_unpacked(files, monkeypatch):
    bomb = archive([*files.items(), ("big.txt", bytes(4 << 20))])
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(cxml.DataError, match="4,194,304 bytes packed into"):
        cxml.load(bomb)


def test_sizes_and_numbers_are_bounded(files, monkeypatch):
    for name, value in (("LARGEST_ARCHIVE", 10), ("LARGEST_CONTENT", 1000), ("MOST_FILES", 2)):
        with monkeypatch.context() as patch:
            patch.setattr(packing, name, value)
            with pytest.raises(cxml.DataError, match=r"at most [\d,]+ are read"):
                cxml.load(archive(files.items()))


def test_a_size_that_is_not_what_it_says_is_refused(files):
    content = bytearray(archive(files.items()))
    central = content.index(b"PK\1\2")
    [size] = struct.unpack_from("<I", content, central + 24)
    for claimed in (size - 1, size + 1):
        struct.pack_into("<I", content, central + 24, claimed)
        with pytest.raises(cxml.DataError):
            cxml.load(bytes(content))


def test_encrypted_and_unusual_files_are_refused(files):
    content = bytearray(archive(files.items()))
    central = content.index(b"PK\1\2")
    content[central + 8] |= 1
    with pytest.raises(cxml.DataError, match="encrypted"):
        cxml.load(bytes(content))
    with pytest.raises(cxml.DataError, match="unusual way"):
        cxml.load(archive(files.items(), zipfile.ZIP_BZIP2))


def test_a_damaged_byte_gives_a_refusal(files):
    small = archive([(name, content) for name, content in files.items() if name != "satisfaction.txt"])
    for at in [*range(60), *range(60, len(small), len(small) // 97), *range(len(small) - 120, len(small))]:
        changed = bytearray(small)
        changed[at] ^= 0xFF
        with pytest.raises((cxml.DataError, cxml.ConfigError)):
            cxml.load(bytes(changed))


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive", b"PK\5\6" + bytes(18)])
def test_what_is_no_archive_is_refused(content):
    with pytest.raises((cxml.DataError, cxml.ConfigError), match="packed model"):
        cxml.load(content)
