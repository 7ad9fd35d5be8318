"""Transactions: what they promise, and that they see their own writes."""

from __future__ import annotations

import pytest

from ociappr.metadata import Conflict, Put, Transaction, commit
from ociappr.metadata.memory import MemoryMetadata


async def test_a_transaction_sees_what_it_has_written() -> None:
    store = MemoryMetadata()
    await commit(store, [], [Put(b"old", b"1"), Put(b"gone", b"1")])
    txn = Transaction(store)
    txn.put(b"old", b"2")
    txn.put(b"new", b"2")
    txn.delete(b"gone")
    found = await txn.get_many([b"old", b"new", b"gone", b"never"])
    assert found == {b"old": b"2", b"new": b"2"}
    assert await txn.peek(b"gone") is None


async def test_a_promise_about_a_written_key_is_about_what_was_stored() -> None:
    store = MemoryMetadata()
    txn = Transaction(store)
    txn.put(b"key", b"mine")
    assert await txn.get(b"key") == b"mine"
    await commit(store, [], [Put(b"key", b"theirs")])
    with pytest.raises(Conflict):
        await txn.commit()
