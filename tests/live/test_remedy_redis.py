# SPDX-License-Identifier: GPL-2.0-only
"""A Redis under the remedy holds the same data as one without, to the last byte."""

import random
import subprocess
from collections.abc import Iterator

from tools.workloads.redis import Redis, private_redis
from tracer.allocator.remedy import find_remedy

_KEYS, _COMMANDS, _ROUNDS = 400, 3000, 2


def _command(*words: bytes) -> bytes:
    lengths = (b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
    return b"*%d\r\n%s" % (len(words), b"".join(lengths))


def _commands(chance: random.Random) -> Iterator[bytes]:
    """Values that grow, shrink and go, from a few bytes to megabytes."""
    for _ in range(_COMMANDS):
        key = b"key:%d" % chance.randrange(_KEYS)
        value = chance.randbytes(8) * chance.choice((1, 20, 500, 8000, 60_000))
        yield chance.choice(
            (
                _command(b"SET", key, value),
                _command(b"SET", key, value),
                _command(b"APPEND", key, value),
                _command(b"SETRANGE", key, b"%d" % chance.randrange(1 << 16), value),
                _command(b"DEL", key),
            )
        )
    for number in range(0, _KEYS, 3):
        yield _command(b"DEL", b"key:%d" % number)


def _round(redis: Redis, commands: bytes) -> str:
    """Send commands, have Redis save and load everything; returns the checksum of its data."""
    pipe = ["redis-cli", "-s", str(redis.socket), "--pipe"]
    subprocess.run(pipe, input=commands, stdout=subprocess.DEVNULL, check=True)
    redis.command("BGSAVE")
    digest = redis.command("DEBUG", "DIGEST")
    while redis.command("INFO", "persistence").count("rdb_bgsave_in_progress:1"):
        pass
    redis.command("DEBUG", "RELOAD")
    assert redis.command("DEBUG", "DIGEST") == digest
    return digest


def test_the_data_of_redis_is_the_same_with_and_without_the_remedy(remedy_library: str) -> None:
    settings = "dirty_decay_ms:0"
    chance = random.Random(1)
    with (
        private_redis(MALLOC_CONF=settings) as plain,
        private_redis(MALLOC_CONF=settings, LD_PRELOAD=remedy_library) as redis,
    ):
        for _ in range(_ROUNDS):
            commands = b"".join(_commands(chance))
            assert _round(redis, commands) == _round(plain, commands)
        remedy = find_remedy(redis.pid)
    assert remedy is not None
    assert remedy.swept > 100
