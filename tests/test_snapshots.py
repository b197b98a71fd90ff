"""Snapshots on a real directory: whole or left out, whatever breaks, and wherever the process dies (F38-F42)."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from streamal.edge.snapshots import DirectorySnapshots, Disk
from streamal.ports import Snapshots

SAVER = """
import sys
from itertools import count
from pathlib import Path
from streamal.edge.snapshots import DirectorySnapshots
snapshots = DirectorySnapshots(Path(sys.argv[1]))
for number in count(int(sys.argv[2])):
    assert snapshots.save(number.to_bytes(8, "big") * 20_000), snapshots.problems
    if number == int(sys.argv[2]) + 1:
        print("saving", flush=True)
"""


def snapshot_files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.bin"), reverse=True)


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def saved(directory: Path, *payloads: bytes) -> list[Path]:
    """Save *payloads*, oldest first; return the files, newest first."""
    snapshots = DirectorySnapshots(directory, keep=len(payloads))
    assert all(snapshots.save(payload) for payload in payloads)
    return snapshot_files(directory)


class Killed(BaseException):
    """The process died here."""


def breaking(nth: int, error: BaseException, *, once: bool) -> tuple[Disk, list[str]]:
    """Return a disk whose *nth* call fails with *error* (and all later ones, unless *once*), and the calls made."""
    calls: list[str] = []

    def wrap(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            if len(calls) == nth or (len(calls) > nth and not once):
                if name == "close":  # Linux closes the descriptor even when it reports an error
                    call(*args)
                raise error
            return call(*args, **kwargs)

        return wrapped

    return Disk(*(wrap(name, call) for name, call in Disk()._asdict().items())), calls


def test_what_was_saved_is_loaded_newest_first(tmp_path: Path) -> None:
    """The two newest of five come back, the newest first, whatever the clock said and whoever asks."""
    snapshots: Snapshots = DirectorySnapshots(tmp_path / "deep" / "er")
    assert snapshots.load() == []
    for number in range(5):
        assert snapshots.save(b"%d" % number * 1_000)
    os.utime(snapshot_files(tmp_path / "deep" / "er")[0], (0, 0))
    assert snapshots.load() == [b"4" * 1_000, b"3" * 1_000]
    assert DirectorySnapshots(tmp_path / "deep" / "er").load() == [b"4" * 1_000, b"3" * 1_000]
    assert len(snapshot_files(tmp_path / "deep" / "er")) == 2


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    """Whatever the umask, the directory is 0700 and the files are 0600."""
    before = os.umask(0)
    try:
        (file,) = saved(tmp_path / "s", b"model")
    finally:
        os.umask(before)
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o700
    assert file.stat().st_mode & 0o777 == 0o600


def test_every_prefix_is_left_out(tmp_path: Path) -> None:
    """A file cut off anywhere does not count; the one before does."""
    newest, _ = saved(tmp_path, b"old", b"a small model")
    whole = newest.read_bytes()
    for length in range(len(whole)):
        newest.write_bytes(whole[:length])
        snapshots = DirectorySnapshots(tmp_path)
        assert snapshots.load() == [b"old"]
        assert len(snapshots.problems) == 1
        assert newest.name in snapshots.problems[0]


def test_every_changed_byte_is_noticed(tmp_path: Path) -> None:
    """All 255 other values of each byte, header and payload alike, make the file not count."""
    newest, _ = saved(tmp_path, b"old", b"model")
    whole = newest.read_bytes()
    snapshots = DirectorySnapshots(tmp_path)
    with newest.open("r+b", buffering=0) as file:
        for place, byte in enumerate(whole):
            for change in range(1, 256):
                os.pwrite(file.fileno(), bytes([byte ^ change]), place)
                assert snapshots.load() == [b"old"], (place, change)
            os.pwrite(file.fileno(), bytes([byte]), place)
    assert snapshots.load() == [b"model", b"old"]


def test_trailing_bytes_are_noticed(tmp_path: Path) -> None:
    """A file that goes on after its payload does not count."""
    (file,) = saved(tmp_path, b"model")
    with file.open("ab") as more:
        more.write(b"\0")
    snapshots = DirectorySnapshots(tmp_path)
    assert snapshots.load() == []
    assert "announces 5 bytes and has 6" in snapshots.problems[0]


def test_only_plain_files_of_our_own_count(tmp_path: Path) -> None:
    """A link, a FIFO, a directory and a file that others may write are left out, and none blocks the start (F50)."""
    (good,) = saved(tmp_path / "s", b"model")
    writable, link, fifo, folder = (good.with_name(f"snapshot-{n:012d}.bin") for n in range(11, 15))
    writable.write_bytes(good.read_bytes())
    writable.chmod(0o666)
    (tmp_path / "elsewhere").write_bytes(good.read_bytes())
    link.symlink_to(tmp_path / "elsewhere")
    os.mkfifo(fifo)
    folder.mkdir()
    snapshots = DirectorySnapshots(tmp_path / "s", keep=9)
    assert snapshots.load() == [b"model"]
    assert len(snapshots.problems) == 4


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o660, 0o606])
def test_a_snapshot_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    """Group or world: one bit is enough, for the payload will be unpickled (F50)."""
    (file,) = saved(tmp_path, b"model")
    file.chmod(mode)
    snapshots = DirectorySnapshots(tmp_path)
    assert snapshots.load() == []
    assert "another user owns it or may write to it" in snapshots.problems[0]
    file.chmod(0o644)
    assert snapshots.load() == [b"model"]


class PowerFailure:
    """A disk whose cache is lost: only data after an fsync of the file, and names after one of the directory, survive.

    It keeps beside the real directory what a disk without power would have: a file's bytes as of its last fsync, a
    directory's names as of the directory's last fsync.
    """

    def __init__(self) -> None:
        self._paths: dict[int, Path] = {}
        self._data: dict[Path, bytes] = {}
        self._pending: dict[Path, Path] = {}
        self._durable: dict[Path, bytes] = {}
        self.disk = Disk(open=self._open, fsync=self._fsync, replace=self._replace)

    def _open(self, path: Path, *args: int) -> int:
        fd = os.open(path, *args)
        self._paths[fd] = path
        return fd

    def _fsync(self, fd: int) -> None:
        path = self._paths[fd]
        if path.is_dir():
            self._durable = {target: self._data.get(source, b"") for target, source in self._pending.items()}
        else:
            self._data[path] = path.read_bytes()

    def _replace(self, source: Path, target: Path) -> None:
        os.replace(source, target)  # noqa: PTH105
        self._pending[target] = source

    def fail(self) -> None:
        """Leave of each file what has reached the disk; a name without an fsync of the directory is gone."""
        for target in self._pending:
            if target in self._durable:
                target.write_bytes(self._durable[target])
            else:
                target.unlink(missing_ok=True)


def test_what_was_saved_survives_a_power_failure(tmp_path: Path) -> None:
    """A save that has answered yes has synced the file before its name, and the name: neither fsync may be left out."""
    saved(tmp_path, b"old")
    power = PowerFailure()
    assert DirectorySnapshots(tmp_path, disk=power.disk).save(b"new")
    power.fail()
    snapshots = DirectorySnapshots(tmp_path)
    assert snapshots.load() == [b"new", b"old"]
    assert snapshots.problems == ()


def test_a_damaged_file_goes_before_a_readable_one(tmp_path: Path) -> None:
    """The snapshot that load skipped is the first to be removed, so that two readable ones remain."""
    newest, _ = saved(tmp_path, b"old", b"rotten")
    newest.write_bytes(b"rot")
    snapshots = DirectorySnapshots(tmp_path)
    assert snapshots.load() == [b"old"]
    assert snapshots.save(b"new")
    assert snapshots.load() == [b"new", b"old"]
    assert snapshots.problems == ()


def test_a_name_is_not_damaged_for_ever(tmp_path: Path) -> None:
    """If the directory is emptied behind our back, a name that was damaged before is as good as any other."""
    saved(tmp_path, b"old", b"rotten")[0].write_bytes(b"rot")
    snapshots = DirectorySnapshots(tmp_path)
    assert snapshots.load() == [b"old"]
    for file in snapshot_files(tmp_path):
        file.unlink()
    assert all(snapshots.save(payload) for payload in (b"1", b"2", b"3"))
    assert snapshots.load() == [b"3", b"2"]


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    """A temporary file is swept away at the next start; a stranger's file is not touched."""
    saved(tmp_path, b"model")
    leftover, stranger = tmp_path / f"snapshot-{'0' * 16}.tmp", tmp_path / "notes.tmp"
    leftover.touch()
    stranger.touch()
    assert DirectorySnapshots(tmp_path).load() == [b"model"]
    assert not leftover.exists()
    assert stranger.exists()


@pytest.mark.parametrize("once", [True, False], ids=["once", "from then on"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_failing_disk_never_costs_the_older_snapshot(tmp_path: Path, code: int, once: bool) -> None:
    """Whichever system call of a save fails: no exception, a true answer, a readable older snapshot, no leak (F40)."""
    open_before = descriptors()
    for nth in count(1):
        directory = tmp_path / str(nth)
        saved(directory, b"older", b"old")
        disk, calls = breaking(nth, OSError(code, os.strerror(code)), once=once)
        snapshots = DirectorySnapshots(directory, disk=disk)
        stored = snapshots.save(b"new")
        loaded = DirectorySnapshots(directory).load()
        if stored:
            assert loaded == [b"new", b"old"]
        else:
            assert loaded in ([b"old", b"older"], [b"new", b"old"])
            assert snapshots.problems
        assert not (once and list(directory.glob("*.tmp"))), calls
        if len(calls) < nth:
            assert stored
            break
    assert descriptors() == open_before


def test_a_failing_disk_never_stops_the_start(tmp_path: Path) -> None:
    """Whichever system call of a load fails, what can be read is returned and the rest is explained."""
    saved(tmp_path, b"old", b"new")
    for nth in count(1):
        disk, calls = breaking(nth, OSError(errno.EIO, "Input/output error"), once=True)
        snapshots = DirectorySnapshots(tmp_path, disk=disk)
        loaded = snapshots.load()
        assert len(loaded) + len(snapshots.problems) >= (1 if calls == ["listdir"] else 2)
        if len(calls) < nth:
            break
    assert loaded == [b"new", b"old"]


def test_a_process_killed_at_any_call_leaves_a_readable_snapshot(tmp_path: Path) -> None:
    """Death before each system call in turn, then a new process: it loads, and it saves again (F6)."""
    for nth in count(1):
        directory = tmp_path / str(nth)
        saved(directory, b"older", b"old")
        disk, calls = breaking(nth, Killed(), once=False)
        try:
            DirectorySnapshots(directory, disk=disk).save(b"new")
        except Killed:
            heir = DirectorySnapshots(directory)
            assert heir.load() in ([b"old", b"older"], [b"new", b"old"]), calls
            assert heir.save(b"newest")
            assert heir.load()[0] == b"newest"
            assert len(list(directory.iterdir())) == 2
        else:
            break


def test_short_writes_and_reads_are_continued(tmp_path: Path) -> None:
    """A kernel that takes three bytes at a time still stores and returns the whole payload."""
    disk = Disk(write=lambda fd, data: os.write(fd, data[:3]), read=lambda fd, length: os.read(fd, min(3, length)))
    snapshots = DirectorySnapshots(tmp_path, disk=disk)
    assert snapshots.save(b"a model of some length")
    assert snapshots.load() == [b"a model of some length"]


def test_a_file_system_that_cannot_sync_directories_will_do(tmp_path: Path) -> None:
    """EINVAL of an fsync on a directory (some network file systems) is not a failed save."""

    def fsync(fd: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{fd}"):  # noqa: PTH112
            raise OSError(errno.EINVAL, "Invalid argument")

    assert DirectorySnapshots(tmp_path, disk=Disk(fsync=fsync)).save(b"model")


def test_a_refusing_kernel_is_reported_not_raised(tmp_path: Path) -> None:
    """A real refusal in the middle of the file (RLIMIT_FSIZE) leaves the older one and nothing else."""
    saved(tmp_path, b"old")
    snapshots = DirectorySnapshots(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        stored = snapshots.save(bytes(3 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not stored
    assert "File too large" in snapshots.problems[0]
    assert snapshots.load() == [b"old"]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_where_the_directory_should_be_is_reported(tmp_path: Path) -> None:
    """Neither load nor save raises if the path is a file."""
    (tmp_path / "s").touch()
    snapshots = DirectorySnapshots(tmp_path / "s")
    assert snapshots.load() == []
    assert "Not a directory" in snapshots.problems[0]
    assert not snapshots.save(b"model")
    assert "File exists" in snapshots.problems[0]


def test_kill_minus_nine_always_leaves_a_readable_snapshot(tmp_path: Path) -> None:
    """Fifteen processes that save without pause are killed at odd moments; what is left is whole and never older."""
    newest = 0
    for kill in range(15):
        command = [sys.executable, "-c", SAVER, str(tmp_path), str(newest)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"saving\n"
            time.sleep(kill * 0.0013)
            process.send_signal(signal.SIGKILL)
        assert len(list(tmp_path.glob("*.tmp"))) <= 1
        loaded = DirectorySnapshots(tmp_path).load()
        assert loaded
        before, newest = newest, int.from_bytes(loaded[0][:8], "big")
        assert loaded[0] == newest.to_bytes(8, "big") * 20_000
        assert newest > before
