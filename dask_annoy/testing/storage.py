"""What an index folder needs of a storage backend: a class of tests, to be derived from with a fixture ``folder``."""

from __future__ import annotations

import errno
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dask_annoy.errors import CorruptIndexError
from dask_annoy.storage import IndexFolder, put_if_absent
from dask_annoy.storage.publish import prove_conditional_put

__all__ = ["StorageConformance"]

_VERSION = "versions/00000000000000000001.json"


class StorageConformance:
    """Tests that a backend must pass to hold an index.

    Derive a class from it, named ``Test…``, and give it a pytest fixture ``folder`` that returns an empty
    `IndexFolder` on the backend, where the user may read, write, list and delete.

    Attributes
    ----------
    is_shared : bool
        Whether other processes see the same files (``memory://`` is not).
    is_atomic : bool
        Whether the server creates a file exclusively even when requests overlap. Servers made for tests may only look
        and then write: the races are left out for them.
    writers : int
        Processes (threads, where `is_shared` is False) that race.
    rounds : int
        Races in a run; the environment variable ``DASK_ANNOY_RACE_ROUNDS`` overrides it.
    """

    is_shared: ClassVar[bool] = True
    is_atomic: ClassVar[bool] = True
    writers: ClassVar[int] = 4
    rounds: ClassVar[int] = 10

    # Publishing

    def test_the_second_writer_of_a_name_loses_and_the_first_may_repeat_itself(self, folder: IndexFolder) -> None:
        assert put_if_absent(folder, _VERSION, b"first writer")
        assert not put_if_absent(folder, _VERSION, b"second writer")
        assert not put_if_absent(folder, _VERSION, b"other writer")  # of the same size
        assert put_if_absent(folder, _VERSION, b"first writer")
        assert folder.read_bytes(_VERSION) == b"first writer"

    def test_creating_refuses_a_taken_name_and_leaves_it_alone(self, folder: IndexFolder) -> None:
        folder.create(_VERSION, b"first")
        for payload in (b"second", b"x" * 300_000):
            with pytest.raises(OSError):
                folder.create(_VERSION, payload)
            assert folder.read_bytes(_VERSION) == b"first"

    def test_an_empty_payload_is_refused_and_destroys_nothing(self, folder: IndexFolder) -> None:
        put_if_absent(folder, _VERSION, b"full")
        with pytest.raises(ValueError, match="empty"):
            put_if_absent(folder, _VERSION, b"")
        with pytest.raises(ValueError, match="empty"):
            folder.create(_VERSION, b"")
        assert folder.read_bytes(_VERSION) == b"full"

    def test_a_large_payload_is_published_whole(self, folder: IndexFolder) -> None:
        payload = os.urandom(6_000_000)
        assert put_if_absent(folder, _VERSION, payload)
        assert folder.read_bytes(_VERSION) == payload

    def test_publishing_leaves_nothing_but_the_file(self, folder: IndexFolder) -> None:
        if folder.has_conditional_put:
            prove_conditional_put(folder)
        put_if_absent(folder, _VERSION, b"first")
        put_if_absent(folder, _VERSION, b"again")
        assert folder.list("versions") == [_VERSION.split("/")[1]]
        assert folder.list("staging") == []

    def test_a_lost_reply_to_our_own_put_is_a_win(self, folder: IndexFolder) -> None:
        faulty = _Faulty(folder, fails=TimeoutError(), before=False)
        assert put_if_absent(faulty, _VERSION, b"ours")
        assert folder.read_bytes(_VERSION) == b"ours"
        assert put_if_absent(faulty, _VERSION, b"ours")

    def test_an_error_after_anothers_put_is_a_loss(self, folder: IndexFolder) -> None:
        put_if_absent(folder, _VERSION, b"theirs")
        assert not put_if_absent(_Faulty(folder, fails=TimeoutError(), before=True), _VERSION, b"ours!!")
        assert folder.read_bytes(_VERSION) == b"theirs"

    def test_a_put_that_did_not_arrive_is_tried_again(self, folder: IndexFolder) -> None:
        assert put_if_absent(_Faulty(folder, fails=ConnectionResetError(), before=True), _VERSION, b"ours")
        assert folder.read_bytes(_VERSION) == b"ours"

    def test_of_writers_that_race_exactly_one_wins_each_round_and_its_content_is_whole(
        self, folder: IndexFolder
    ) -> None:
        if not self.is_atomic:
            pytest.skip("this server looks and then writes, so a race on it proves nothing")
        rounds = int(os.environ.get("DASK_ANNOY_RACE_ROUNDS", self.rounds))
        race = self._race_of_processes if self.is_shared else self._race_of_threads
        wins = race(folder, rounds)
        for turn in range(rounds):
            winners = [writer for writer in range(self.writers) if wins[writer][turn]]
            assert len(winners) == 1, f"round {turn} was won by {winners}"
            assert folder.read_bytes(_name(turn)) == _payload(winners[0], turn)
        assert len(folder.list("race")) == rounds

    # Files

    def test_what_is_written_is_read_listed_measured_and_deleted(self, folder: IndexFolder) -> None:
        assert folder.list("a") == []
        assert folder.files() == []
        folder.write_bytes("a/x", b"one")
        folder.write_bytes("a/sub/y", b"")
        assert folder.read_bytes("a/x") == b"one"
        assert folder.read_bytes("a/sub/y") == b""
        assert folder.size("a/x") == 3
        assert folder.list("a") == ["x"]
        assert not folder.exists("a/sub")
        folder.delete(["a/x", "a/none"])
        assert folder.list("a") == []
        folder.delete_tree("a")
        folder.delete_tree("a")
        assert not folder.exists("a/sub/y")

    def test_a_missing_file_is_a_file_not_found_error(self, folder: IndexFolder) -> None:
        folder.write_bytes("a/x", b"1")
        for name in ("a/none", "none", "a/x/y"):
            assert not folder.exists(name)
            for read in (folder.read_bytes, folder.size):
                with pytest.raises(FileNotFoundError):
                    read(name)

    def test_files_go_up_and_come_down_unchanged(self, folder: IndexFolder, tmp_path: Path) -> None:
        source, back = tmp_path / "source", tmp_path / "back"
        source.write_bytes(os.urandom(3_000_001))
        folder.upload(source, "shards/u/forest.ann")
        folder.download("shards/u/forest.ann", back)
        assert back.read_bytes() == source.read_bytes()
        with pytest.raises(FileNotFoundError):
            folder.download("shards/u/none", tmp_path / "none")
        assert not (tmp_path / "none").exists()

    def test_a_file_that_is_too_large_is_refused(self, folder: IndexFolder) -> None:
        folder.write_bytes("x", b"12345")
        assert folder.read_bytes("x", max_bytes=5) == b"12345"
        with pytest.raises(CorruptIndexError, match="x has 5 bytes, more than the 4"):
            folder.read_bytes("x", max_bytes=4)

    def test_deleting_a_tree_leaves_a_sibling_whose_name_starts_alike(self, folder: IndexFolder) -> None:
        folder.write_bytes("builds/a/x", b"1")
        folder.write_bytes("builds/ab/x", b"1")
        folder.delete_tree("builds/a")
        assert not folder.exists("builds/a/x")
        assert folder.exists("builds/ab/x")

    def test_all_files_are_found_with_sizes_and_ages_on_the_storages_own_clock(self, folder: IndexFolder) -> None:
        before = folder.now()
        folder.write_bytes("a/x", b"one")
        folder.write_bytes("b", b"1")
        folder.write_bytes("c/d/e", b"")
        after = folder.now()
        found = {file.name: file for file in folder.files()}
        assert {name: file.bytes for name, file in found.items()} == {"a/x": 3, "b": 1, "c/d/e": 0}
        # Some storage counts whole seconds only.
        assert all(int(before) <= int(file.modified) <= int(after) + 1 for file in found.values())

    def test_what_another_process_wrote_just_now_is_seen(self, folder: IndexFolder) -> None:
        if not self.is_shared:
            pytest.skip("other processes do not see these files")
        assert folder.list("v") == []
        for number in ("1", "2"):
            _in_another_process(_write, folder, f"v/{number}", number.encode())
            assert folder.list("v") == [str(n) for n in range(1, int(number) + 1)]
            assert folder.read_bytes(f"v/{number}") == number.encode()

    # Races

    def _race_of_processes(self, folder: IndexFolder, rounds: int) -> list[list[bool]]:
        context = multiprocessing.get_context("spawn")
        barrier, results = context.Barrier(self.writers), context.Queue()
        racers = [
            context.Process(target=_race, args=(folder, writer, rounds, barrier, results))
            for writer in range(self.writers)
        ]
        for racer in racers:
            racer.start()
        try:
            outcomes = dict(results.get(timeout=180) for _ in racers)
        finally:
            for racer in racers:
                racer.join(10)
                racer.kill()
        return [_or_raise(outcomes[writer]) for writer in range(self.writers)]

    def _race_of_threads(self, folder: IndexFolder, rounds: int) -> list[list[bool]]:
        barrier = threading.Barrier(self.writers)
        with ThreadPoolExecutor(self.writers) as pool:
            return list(pool.map(lambda writer: _run(folder, writer, rounds, barrier), range(self.writers)))


class _Faulty(IndexFolder):
    """The same folder, whose first `create` fails: before the file is written, or after."""

    def __init__(self, folder: IndexFolder, fails: Exception, before: bool) -> None:
        super().__init__(folder.url, folder.storage_options, folder.allow_unsafe_publish)
        object.__setattr__(self, "_faults", [fails])
        object.__setattr__(self, "_before", before)

    def create(self, name: str, payload: bytes) -> None:
        is_own = name.startswith("versions/")  # and not of the proof that the server honours conditions
        fault = self.__dict__["_faults"].pop() if is_own and self.__dict__["_faults"] else None
        if fault is None or not self.__dict__["_before"]:
            super().create(name, payload)
        if fault is not None:
            raise fault


def _name(turn: int) -> str:
    return f"race/{turn:06d}"


def _payload(writer: int, turn: int) -> bytes:
    return f"{writer} {turn} ".encode() * 20_000


def _run(folder: IndexFolder, writer: int, rounds: int, barrier: Any) -> list[bool]:
    if folder.has_conditional_put:
        prove_conditional_put(folder)  # now, so that it does not part the racers in the first round
    won = []
    for turn in range(rounds):
        barrier.wait(60)
        won.append(put_if_absent(folder, _name(turn), _payload(writer, turn)))
    return won


def _race(folder: IndexFolder, writer: int, rounds: int, barrier: Any, results: Any) -> None:
    try:
        outcome: list[bool] | str = _run(folder, writer, rounds, barrier)
    except Exception as error:
        barrier.abort()
        outcome = f"{type(error).__name__}: {error}"
    results.put((writer, outcome))


def _or_raise(outcome: list[bool] | str) -> list[bool]:
    if isinstance(outcome, str):
        raise RuntimeError(f"a racing process ended with {outcome}")
    return outcome


def _write(folder: IndexFolder, name: str, payload: bytes) -> None:
    folder.write_bytes(name, payload)


def _in_another_process(function: Callable[..., None], *arguments: Any) -> None:
    process = multiprocessing.get_context("spawn").Process(target=function, args=arguments)
    process.start()
    process.join(120)
    if process.exitcode != 0:
        raise OSError(errno.ECHILD, f"the other process ended with {process.exitcode}")
