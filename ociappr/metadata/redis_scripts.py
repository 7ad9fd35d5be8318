"""What is asked of Redis: three scripts over four keys of one hash tag, each one instant.

Values and versions are hashes apart, so that a check reads no value. The order is a sorted set: its
members all score nothing, and such members Redis keeps in byte order. The most that a script does
is one commit of the largest size, or one page of a scan: some milliseconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from ociappr.metadata import Check, Delete, Empty, Entry, Put, Unchanged, Write, prefix_end

Argument = bytes | str | int
Reply = Sequence[Sequence[bytes | None]]

PARTS = ("value", "version", "order", "revision")

# unpack() puts all it gets on Lua's stack, which has a limit of some thousands
_LUA = """
local values, versions, order, revision = unpack(KEYS)
local STEP = 500

local function in_steps(list, first, last, work)
  for from = first, last, STEP do
    work(from, unpack(list, from, math.min(from + STEP - 1, last)))
  end
end

local function entries(keys)
  local found = {}
  in_steps(keys, 1, #keys, function(_, ...)
    found[#found + 1] = redis.call('HMGET', values, ...)
    found[#found + 1] = redis.call('HMGET', versions, ...)
  end)
  return found
end
"""

_GET = f"""{_LUA}
return entries(ARGV)
"""

_SCAN = f"""{_LUA}
local keys = redis.call(ARGV[1], order, ARGV[2], ARGV[3], 'LIMIT', 0, ARGV[4])
local found = entries(keys)
table.insert(found, 1, keys)
return found
"""

# A version is the time of its commit in microseconds, or one more than the last version: even when
# a fail-over lost the last commits and their versions, no version comes twice.
# Deletes come first: Redis refuses the first write when its memory is full, and only the first, so
# what makes room passes then, and whatever is refused has written nothing.
_COMMIT = f"""{_LUA}
local unchanged, empty, deletes, puts = unpack(ARGV, 1, 4)
local first = 5
local expected = first + unchanged
local prefixes = expected + unchanged
local deleted = prefixes + 2 * empty
local put = deleted + deletes

local holds = true
in_steps(ARGV, first, expected - 1, function(from, ...)
  for i, version in ipairs(redis.call('HMGET', versions, ...)) do
    holds = holds and (version or '') == ARGV[from + unchanged + i - 1]
  end
end)
for i = prefixes, deleted - 1, 2 do
  holds = holds and #redis.call('ZRANGEBYLEX', order, ARGV[i], ARGV[i + 1], 'LIMIT', 0, 1) == 0
end
if not holds then return 0 end

in_steps(ARGV, deleted, put - 1, function(_, ...)
  redis.call('HDEL', values, ...)
  redis.call('HDEL', versions, ...)
  redis.call('ZREM', order, ...)
end)

local now = redis.call('TIME')
local last = redis.call('GET', revision) or 0
local version = string.format('%.0f', math.max(now[1] * 1000000 + now[2], last + 1))
local stamped, ordered = {{}}, {{}}
for i = put, put + 2 * puts - 1, 2 do
  local key = ARGV[i]
  stamped[#stamped + 1] = key
  stamped[#stamped + 1] = version
  ordered[#ordered + 1] = 0
  ordered[#ordered + 1] = key
end
in_steps(ARGV, put, put + 2 * puts - 1, function(_, ...) redis.call('HSET', values, ...) end)
in_steps(stamped, 1, #stamped, function(_, ...) redis.call('HSET', versions, ...) end)
in_steps(ordered, 1, #ordered, function(_, ...) redis.call('ZADD', order, ...) end)
if puts ~= '0' then redis.call('SET', revision, version) end
return 1
"""


@dataclass(frozen=True, slots=True)
class Script:
    """A script, and the name by which Redis knows it once it has seen it."""

    text: str
    sha: str

    @classmethod
    def of(cls, text: str) -> Script:
        """Return the script whose source is *text*."""
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


GET, SCAN, COMMIT = map(Script.of, (_GET, _SCAN, _COMMIT))


def interval(
    start: bytes, stop: bytes, *, limit: int, reverse: bool = False
) -> tuple[Argument, ...]:
    """Return the arguments of `SCAN`."""
    first, end = b"[" + start, b"(" + stop
    if reverse:
        return "ZREVRANGEBYLEX", end, first, limit
    return "ZRANGEBYLEX", first, end, limit


def operations(checks: Sequence[Check], writes: Sequence[Write]) -> Iterator[Argument]:
    """Yield the arguments of `COMMIT`: how many there are of each kind, then kind by kind."""
    unchanged = [check for check in checks if isinstance(check, Unchanged)]
    empty = [check.prefix for check in checks if isinstance(check, Empty)]
    deletes = [write.key for write in writes if isinstance(write, Delete)]
    puts = [write for write in writes if isinstance(write, Put)]
    yield from (len(unchanged), len(empty), len(deletes), len(puts))
    yield from (check.key for check in unchanged)
    yield from (b"" if check.version is None else check.version for check in unchanged)
    for prefix in empty:
        yield from (b"[" + prefix, b"(" + prefix_end(prefix))
    yield from deletes
    for put in puts:
        yield from (put.key, put.value)


def entries(wanted: Sequence[bytes], found: Reply) -> Iterator[Entry]:
    """Yield those of *wanted* that were found: values and versions by turns, some at a time."""
    values, versions = chain.from_iterable(found[::2]), chain.from_iterable(found[1::2])
    for one, value, version in zip(wanted, values, versions, strict=True):
        if value is not None and version is not None:
            yield Entry(one, value, int(version))
