"""Files that last: the whole file or the one before, a full disk told, leftovers removed, locks that leave nothing."""

from __future__ import annotations

import errno
import os
import threading

import numpy as np
import pytest
from filelock import Timeout

from cm2.config.files import read_json
from cm2.durable import (
    FULL,
    Lock,
    file_sha256,
    full_disk,
    new_array,
    replaced,
    set_aside,
    whole_or_nothing,
    write_json,
    write_text,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = write_text(tmp_path / "new" / "a.txt", "before")
    with pytest.raises(KeyError), replaced(path) as part:
        part.write_text("half")
        raise KeyError
    assert path.read_text() == "before" and names(path.parent) == ["a.txt"]
    write_json(path, {"ä": 1}, ensure_ascii=False)
    assert read_json(path) == {"ä": 1} and names(path.parent) == ["a.txt"]


def test_files_and_folders_have_the_permissions_that_the_user_asks_for(tmp_path):
    for mask in (0o022, 0o077):
        before = os.umask(mask)
        try:
            file = write_text(tmp_path / f"{mask}", "x")
            with whole_or_nothing(tmp_path / f"folder {mask}") as folder:
                (folder / "f").touch()
        finally:
            os.umask(before)
        assert file.stat().st_mode & 0o777 == 0o666 & ~mask
        assert (tmp_path / f"folder {mask}").stat().st_mode & 0o777 == 0o777 & ~mask


def test_leftovers_of_a_killed_process_are_removed_and_files_in_use_are_not(tmp_path):
    for left in (".a[1].json.1.part", ".a[1].json.99999999.part"):
        (tmp_path / left).write_text("half")
    (tmp_path / ".c.5.partial").mkdir()
    with replaced(tmp_path / "a[1].json") as mine, replaced(tmp_path / "a[1].json") as other:
        assert mine != other and mine.exists() and other.exists()
        mine.write_text("1")
        other.write_text("2")
    with whole_or_nothing(tmp_path / "c"):
        pass
    assert names(tmp_path) == ["a[1].json", "c"] and (tmp_path / "a[1].json").read_text() == "1"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "x"),
        RuntimeError(f"PytorchStreamWriter failed: {os.strerror(errno.ENOSPC)}"),
        ValueError(f"I/O error: {os.strerror(errno.EDQUOT)} (os error {errno.EDQUOT})"),
    ],
    ids=repr,
)
def test_a_full_disk_is_one_error_that_names_the_file(tmp_path, error):
    path = write_text(tmp_path / "a", "before")
    with pytest.raises(OSError) as told, replaced(path):
        raise error
    assert told.value.errno in (errno.ENOSPC, errno.EDQUOT) and told.value.filename == str(path)
    assert path.read_text() == "before" and names(tmp_path) == ["a"]
    with pytest.raises(ZeroDivisionError), full_disk(path):
        raise ZeroDivisionError


@pytest.mark.parametrize("fallocate", [True, False])
def test_the_space_of_an_array_is_taken_before_it_is_filled(tmp_path, monkeypatch, fallocate):
    if not fallocate:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    array = new_array(tmp_path / "a.npy", np.float32, (1000, 700))
    stat = (tmp_path / "a.npy").stat()
    assert stat.st_blocks * 512 >= stat.st_size > 2_800_000, "no holes"
    assert not array.any()
    array[:] = 3
    array.flush()
    assert (np.load(tmp_path / "a.npy") == 3).all()


def test_a_checkpoint_on_a_full_disk_is_that_error_too(tmp_path):
    import resource

    import torch

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError) as told, replaced(tmp_path / "a.ckpt") as part, part.open("wb") as file:
            torch.save({"x": torch.zeros(30_000)}, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert told.value.errno in FULL and names(tmp_path) == []


def test_no_space_for_an_array_is_an_error(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError) as told:
        new_array(tmp_path / "a.npy", np.uint8, (10,))
    assert told.value.errno == errno.ENOSPC and told.value.filename.endswith("a.npy")


def test_a_lock_leaves_no_file_and_holds_while_others_wait(tmp_path):
    path, inside, together = tmp_path / ".lock", [0], []

    def work():
        for _ in range(20):
            with Lock(path):
                inside[0] += 1
                together.append(inside[0])
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == [1] * 80 and not path.exists()
    with Lock(path), pytest.raises(Timeout):
        Lock(path).acquire(timeout=0)
    assert not path.exists()


def test_what_is_damaged_is_named_and_set_aside(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'{"a": \xff')
    with pytest.raises(ValueError, match=r"a\.json: not UTF-8 at byte 6; remove it"):
        read_json(path, remedy="remove it")
    sum_before = file_sha256(path)
    with pytest.warns(UserWarning, match=r"a\.json is damaged \(no JSON\) and computed again"):
        set_aside(path, "no JSON")
    assert names(tmp_path) == [".a.json.damaged"] and file_sha256(tmp_path / ".a.json.damaged") == sum_before
