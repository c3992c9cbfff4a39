"""Archives of the challenge from anywhere: bounded as unpacked, only records of the expected name and depth."""

import gzip
import io
import tarfile

import pytest

from cm2.errors import InputError
from data_prep.physionet2012 import raw as raw_files


def packed(raw, *members, pax=None):
    """Replaces set c by an archive of these members: (name, size or content, type)."""
    with tarfile.open(raw / "set-c.tar.gz", "w:gz", pax_headers=pax) as tar:
        for name, content, kind in members:
            info = tarfile.TarInfo(name)
            info.type, info.size = kind, len(content)
            info.linkname = "/etc/passwd"
            tar.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("set-c/1.txt", b"0" * (1 << 21), tarfile.REGTYPE)], r"'set-c/1\.txt' has 2,097,152 bytes, a record at most 1,048,576"),
        ([("../1.txt", b"", tarfile.REGTYPE)], r"'\.\./1\.txt' lies outside the folder of its set"),
        ([("/1.txt", b"", tarfile.REGTYPE)], r"'/1\.txt' lies outside"),
        ([("a/b/c/d/1.txt", b"", tarfile.REGTYPE)], "lies outside"),
        ([("set-c/1.txt", b"", tarfile.SYMTYPE)], "is a link or a device, not a record"),
        ([("set-c/1.txt", b"", tarfile.LNKTYPE)], "is a link or a device"),
        ([("set-c/1.txt", b"", tarfile.FIFOTYPE)], "is a link or a device"),
        ([("set-c/evil.sh", b"x", tarfile.REGTYPE)], r"evil\.sh is not a record"),
    ],
)
def test_an_archive_holds_small_records_and_nothing_else(members, message, tmp_path, monkeypatch):
    packed(tmp_path, *members)
    (tmp_path / "Outcomes-c.txt").write_text(",".join(raw_files.OUTCOMES) + "\n")
    with pytest.raises(InputError, match=message):
        raw_files.read_set(tmp_path, "c")


def test_an_archive_that_unpacks_to_anything_is_refused_before_it_does(tmp_path, monkeypatch):
    monkeypatch.setattr(raw_files, "LARGEST_SET", 1 << 22)
    (tmp_path / "Outcomes-c.txt").write_text(",".join(raw_files.OUTCOMES) + "\n")
    with gzip.open(tmp_path / "set-c.tar.gz", "wb") as file:
        file.write(bytes(1 << 24))
    with pytest.raises(InputError, match="unpacks to more than 4,194,304 bytes"):
        raw_files.read_set(tmp_path, "c")
    monkeypatch.setattr(raw_files, "MOST_MEMBERS", 5)
    packed(tmp_path, *((f"set-c/{n}.txt", b"x", tarfile.REGTYPE) for n in range(9)))
    with pytest.raises(InputError, match="more than 5 files"):
        raw_files.read_set(tmp_path, "c")


def test_sums_that_are_none_name_the_line(tmp_path):
    (tmp_path / raw_files.SUMS).write_text(f"{'0' * 64} x\nabc\n")
    with pytest.raises(InputError, match=r"SHA256SUMS\.txt: line 2: expected a SHA-256 and a name, got 'abc'"):
        raw_files.read_set(tmp_path, "c")
