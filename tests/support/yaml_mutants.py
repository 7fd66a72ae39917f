"""YAML files as hands, editors and disks break them."""

import random
import re
from collections.abc import Callable, Iterator
from itertools import pairwise

_TOKENS = (
    b": ", b":", b"- ", b"[", b"]", b"{", b"}", b",", b"#", b" #", b"&a ", b"*a", b"*a ", b"!!str ", b"!!int ", b"!x ",
    b"!!python/object/apply:os.system [id]", b"!<tag:yaml.org,2002:int> ", b"|", b">", b"|\n", b">-\n", b"'", b'"',
    b"%", b"@", b"`", b"\t", b" \t", b"\n", b"\r\n", b"\r", b"  ", b"---\n", b"--- ", b"...\n", b"<<: ", b"<<: *a\n",
    b"<<: [*a, *a]\n", b"? ", b"? [a]\n", b"\\", b"\x00", b"\x07", b"\x0b", b"\x1b[2J", b"\x1b]0;x\x07", b"\x7f",
    b"\xff", b"\xc3", b"\xed\xa0\x80", b"<<<<<<< HEAD\n", b"||||||| base\n", b"=======\n", b">>>>>>> theirs\n",
    b"%YAML 1.1\n---\n", b"%TAG ! tag:x,2000:\n", b'"\\U00110000"', b'"\\ud800"', b'"\\x1b[2J"', b'"\\x41"',
    b"- - - -\n",
    *(
        text.encode()
        for text in (
            "\x85", "\xa0", "\u200b", "\u200e", "\u2028", "\u2029", "\u202e", "\u2066", "\ufeff", "\uff1a", "\uff0d",
            "\u0663", "\uff11", "\xb2", "\u0391", "\U0001f600", "e\u0301",
        )
    ),
)  # fmt: skip
_VALUES = (
    b"", b"null", b"~", b"Null", b"NULL", b"true", b"True", b"FALSE", b"yes", b"no", b"NO", b"on", b"Off", b"y", b"N",
    b"0", b"-0", b"-0.0", b"+1", b"-1", b"1.", b".5", b"+.5", b"1.0", b"010", b"0777", b"08", b"00", b"0o17", b"0o8",
    b"0x1f", b"0X1F", b"0b11", b"1_000", b"1__0", b"_1", b"1_", b"1_0.5", b"0.1_0", b"0,001", b"1,000", b"12:30:45",
    b"190:20:30.15", b"1:30", b"2020-01-01", b"2001-12-14t21:59:43.10-05:00", b"1e3", b"1E5", b"1e+05", b"1.5e3",
    b".1e-2", b".1e3", b"1e400", b"1e309", b"-1e400", b"1e-400", b"5e-324", b"1.0000000000000002", b"0.1e1", b".nan",
    b"-.inf", b"+.Inf", b"NaN", b"inf", b"Infinity", b"1" * 18, b"1" * 19, b"1" * 30, b"1" * 5000,
    b"0." + b"0" * 400 + b"1", b"'1'", b"'yes'", b'"text"', b'"\\x31"', b"'it''s'", b"text", b"a b", b"- 1", b"-",
    b"=", b"<<", b"@x", b"1 # x", b"1#x", b"[1, 2]", b"[1, 2", b"[1,, 2]", b"[, 1]", b"[1, ]", b"[]", b"{}", b"{a: 1}",
    b"{a}", b"{a: 1, a: 2}", b"{? a}", b"{type: dense, units: 1}", b"[{layer: Flatten}, {layer: Dense, units: 8}]",
    b"http://u:p@h/", b"$(id)", b"'1; rm -rf x'", b"../../x", b"<script>", b"!!int 1", b"!!float 1", b"!!binary YQ==",
    b"!!set {a}", b"&x 1", b"*x", b"|\n    text", b">-\n    text", b"\n    - 1", "\u0661\u0662".encode(),
    "\uff11\uff12".encode(), "1\xb2".encode(), "\u22121".encode(), "\xbd".encode(),
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


def _swap_values(text: bytes, chance: random.Random) -> bytes:
    lines = text.split(b"\n")
    keyed = [at for at, line in enumerate(lines) if b": " in line]
    if len(keyed) < 2:
        return text
    one, other = chance.sample(keyed, 2)
    (key, _, value), (other_key, _, other_value) = lines[one].partition(b": "), lines[other].partition(b": ")
    lines[one], lines[other] = key + b": " + other_value, other_key + b": " + value
    return b"\n".join(lines)


def _double_key(text: bytes, chance: random.Random) -> bytes:
    lines = text.split(b"\n")
    at = chance.randrange(len(lines))
    key, colon, value = lines[at].partition(b":")
    key = chance.choice((key, key.replace(b"  ", b"", 1), b'"' + key.strip() + b'"'))
    lines.insert(at + chance.randint(0, 1), key + colon + chance.choice((value, b" " + chance.choice(_VALUES))))
    return b"\n".join(lines)


def _edit_number(text: bytes, chance: random.Random) -> bytes:
    numbers = list(re.finditer(rb"(?<=[ \[])[-+.0-9][-+.0-9eE]*", text))
    if not numbers:
        return text
    number = chance.choice(numbers)
    digits = bytearray(number[0])
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(digits) + 1)
        digits[at : at + chance.randrange(2)] = bytes([chance.choice(b"0123456789..--++eEeE_:,x")])
    return text[: number.start()] + bytes(digits) + text[number.end() :]


def _quote(text: bytes, chance: random.Random) -> bytes:
    lines = text.split(b"\n")
    at, quote = chance.randrange(len(lines)), chance.choice((b"'", b'"'))
    key, colon, rest = lines[at].partition(b":")
    value, space, comment = rest.strip().partition(b" ")
    if chance.random() < 0.5:
        lines[at] = key + colon + b" " + quote + value + quote + space + comment
    else:
        lines[at] = key[: len(key) - len(key.lstrip())] + quote + key.strip() + quote + colon + rest
    return b"\n".join(lines)


def _deepen(text: bytes, chance: random.Random) -> bytes:
    lines = text.split(b"\n")
    at, depth = chance.randrange(len(lines)), chance.choice((1, 2, 5, 8, 9, 40, 3000, 20000))
    key, colon, value = lines[at].partition(b":")
    opened, closed = chance.choice(((b"[", b"]"), (b"{a: ", b"}"), (b"- ", b""), (b"\n- ", b""), (b"[{", b"}]")))
    lines[at] = key + colon + b" " + opened * depth + value + closed * chance.choice((depth, depth, depth - 1, 0))
    if chance.random() < 0.2:
        lines[at] = b"\n".join(b" " * level + b"a:" for level in range(min(depth, 300)))
    return b"\n".join(lines)


def _refer(text: bytes, chance: random.Random) -> bytes:
    """Anchors, aliases of them, merges, and aliases of aliases."""
    lines = text.split(b"\n")
    for at, word in zip(sorted(chance.choices(range(len(lines)), k=2)), (b"&a", b"*a"), strict=True):
        key, colon, value = lines[at].partition(b":")
        lines[at] = chance.choice(
            (key + colon + b" " + word + value, key + b": " + word, b"<<: " + word + b"\n" + lines[at])
        )
    if chance.random() < 0.3:
        lines.insert(0, b"a0: &a0 [x]")
        lines[1:1] = [b"a%d: &a%d [%s]" % (one, one, b", ".join([b"*a%d" % (one - 1)] * 9)) for one in range(1, 12)]
    return b"\n".join(lines)


def _end_lines_otherwise(text: bytes, chance: random.Random) -> bytes:
    end = chance.choice((b"\r\n", b"\r", b"\n\n", b" \n", b"\t\n", "\x85".encode(), "\u2028".encode(), b"\x0c\n"))
    lines = text.split(b"\n")
    count = chance.choice((1, 1, len(lines) - 1))
    changed = set(chance.sample(range(max(1, len(lines) - 1)), max(1, min(count, len(lines) - 1))))
    return b"".join(line + (end if at in changed else b"\n") for at, line in enumerate(lines))


def _encode_otherwise(text: bytes, chance: random.Random) -> bytes:
    encoding = chance.choice(
        ("utf-8-sig", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252")
    )
    return text.decode("utf-8", "replace").encode(encoding, "replace")


def _blow_up(text: bytes, chance: random.Random) -> bytes:
    """Long lines, long texts, many keys."""
    at = chance.randrange(len(text) + 1)
    piece = chance.choice(
        (b"x", b" ", b"#", b"1", b"\n", b"- ", b"a: 1\n", b"'", b"\\", b"? ", "\u202e".encode(), b"k" * 7 + b": {}\n")
    )
    return text[:at] + piece * chance.choice((100, 2000, 20000, 70000)) + text[at:]


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
    _swap_values,
    _edit_number,
    _edit_number,
    _double_key,
    _quote,
    _deepen,
    _refer,
    _end_lines_otherwise,
    _encode_otherwise,
    _blow_up,
)
