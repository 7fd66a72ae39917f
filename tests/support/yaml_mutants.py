"""YAML files as hands, editors and disks break them."""

import random
from collections.abc import Callable, Iterator
from itertools import pairwise

_TOKENS = (
    b": ", b"- ", b"[", b"]", b"{", b"}", b",", b"#", b"&a ", b"*a", b"!!str ", b"|", b">", b"'", b'"', b"%",
    b"@", b"`", b"\t", b"\n", b"\r\n", b"  ", b"---\n", b"...\n", b"<<: ", b"? ", b"\\",
    b"\xef\xbb\xbf", b"\x00", b"\xff", b"<<<<<<< HEAD\n", b'"\\U00110000"', b'"\\ud800"', b'"\\x1b[2J"',
)  # fmt: skip
_VALUES = (
    b"", b"null", b"~", b"true", b"yes", b"no", b"on", b"0", b"-1", b"010", b"0o17", b"0x1f", b"1_000",
    b"0,001", b"12:30:45", b"2020-01-01", b"1e3", b"1e400", b"1e-400", b".nan", b"-.inf", b"1" * 30, b"'1'",
    b'"text"', b"text", b"[1, 2]", b"[]", b"{}", b"{a: 1}", b"{type: dense, units: 1}", b"http://u:p@h/",
    b"$(id)",
)  # fmt: skip


def mutants(text: bytes, count: int, seed: int) -> Iterator[bytes]:
    """`count` variants of the YAML file `text`, each with one to four faults; the same for the same seed."""
    chance = random.Random(seed)
    for _ in range(count):
        mutant = text
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            mutant = chance.choice(_FAULTS)(mutant or text, chance)
        yield mutant


def _flip_bit(text: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(text))
    return text[:at] + bytes([text[at] ^ 1 << chance.randrange(8)]) + text[at + 1 :]


def _insert_token(text: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(text) + 1)
    return text[:at] + chance.choice(_TOKENS) + text[at:]


def _swap_words(text: bytes, chance: random.Random) -> bytes:
    spaces = [at for at, byte in enumerate(text) if byte in b" \n"]
    words = [(start + 1, end) for start, end in pairwise(spaces) if end > start + 1]
    if len(words) < 2:
        return text
    (a, b), (c, d) = sorted(chance.sample(words, 2))
    return text[:a] + text[c:d] + text[b:c] + text[a:b] + text[d:]


def _mistype_key(text: bytes, chance: random.Random) -> bytes:
    colons = [at for at, byte in enumerate(text) if byte == ord(":") and at]
    if not colons:
        return text
    end = chance.choice(colons)
    for _ in range(chance.randint(1, 2)):
        at = chance.randint(max(0, end - 6), end)
        text = text[:at] + chance.choice((b"", b"x", b"_", b"A", b"\xc3\xa9")) + text[at + chance.randrange(2) :]
    return text


def _change_value(text: bytes, chance: random.Random) -> bytes:
    lines = text.split(b"\n")
    at = chance.randrange(len(lines))
    key, colon, _ = lines[at].partition(b":")
    lines[at] = key + colon + b" " + chance.choice(_VALUES)
    return b"\n".join(lines)


def _move_line(text: bytes, chance: random.Random) -> bytes:
    lines = text.split(b"\n")
    line = lines.pop(chance.randrange(len(lines)))
    for _ in range(chance.randrange(3)):  # none: deleted, one: moved, two: doubled
        lines.insert(chance.randint(0, len(lines)), line)
    return b"\n".join(lines)


def _indent_line(text: bytes, chance: random.Random) -> bytes:
    lines = text.split(b"\n")
    at = chance.randrange(len(lines))
    lines[at] = chance.choice((b" ", b"  ", b"\t", b"- ")) + lines[at] if chance.random() < 0.6 else lines[at][2:]
    return b"\n".join(lines)


def _cut(text: bytes, chance: random.Random) -> bytes:
    return text[: chance.randrange(len(text))]


_FAULTS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip_bit,
    _insert_token,
    _swap_words,
    _mistype_key,
    _change_value,
    _change_value,
    _move_line,
    _indent_line,
    _cut,
)
