"""Which YAML is read: text, scalars, depth, aliases; and mutants as DVC reads them or not at all."""

import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_pipeline.strict_yaml.faults import Block
from keras_pipeline.strict_yaml.nodes import parse_nodes
from keras_pipeline.strict_yaml.reader import parse_yaml
from yaml_mutants import mutants
from yaml_schema import Schema, Small, check_mutants, edited, refusal


@pytest.mark.parametrize("rate", ["1e-3", "1E-3", "0.1e-2", "1.0e-03", "+.001", ".1e-2", "0.001"])
def test_floats_in_every_notation(rate: str) -> None:
    params = parse_yaml(edited("1e-3", rate).encode(), "params.yaml", Schema)
    assert params.train.optimizer.learning_rate == 0.001


BASE = "is an ambiguous number: YAML readers differ on its base. Write a decimal without leading 0."
POINT = "is not a number to YAML. Write '.' as the decimal point, and nothing between thousands."
AMBIGUOUS = {
    "yes": "yes is text to some YAML readers, true or false to others. Write true, false or 'yes'.",
    "No": "No is text to some YAML readers, true or false to others. Write true, false or 'No'.",
    "ON": "ON is text to some YAML readers, true or false to others. Write true, false or 'ON'.",
    "off": "off is text to some YAML readers, true or false to others. Write true, false or 'off'.",
    "y": "y is text to some YAML readers, true or false to others. Write true, false or 'y'.",
    "N": "N is text to some YAML readers, true or false to others. Write true, false or 'N'.",
    **{number: f"{number} {BASE}" for number in ("010", "-0777", "08", "0o17", "0x1f", "0b11")},
    "12:30:45": "12:30:45 is an ambiguous number: in base 60 to some YAML readers. Write a decimal one, or '12:30:45'.",
    "1_000": "1_000 is an ambiguous number: some YAML readers do not allow '_' in it. Leave '_' out.",
    "1__0": "1__0 is an ambiguous number: some YAML readers do not allow '_' in it. Leave '_' out.",
    "1_0.5": "1_0.5 is an ambiguous number: some YAML readers do not allow '_' in it. Leave '_' out.",
    "0,001": f"0,001 {POINT}",
    "1,000,000": f"1,000,000 {POINT}",
    ".nan": ".nan is not a finite number. Write a finite one.",
    "-.Inf": "-.Inf is not a finite number. Write a finite one.",
    "1e400": "1e400 is too large: it would be read as infinity. Write a smaller number.",
    "-1e-400": "-1e-400 is too small: it would be read as 0. Write 0, or a larger number.",
    "9" * 5000: f"{'9' * 18}… is too large: a whole number has 18 characters at most.",
    ".5e3": ".5e3 is text to some YAML readers. Write a digit before the decimal point.",
    "2024-12-31": "2024-12-31 is a date. Write '2024-12-31', in quotes.",
    "=": "= has a meaning of its own in YAML. Write '=', in quotes.",
    "<<": "<< has a meaning of its own in YAML. Write '<<', in quotes.",
    "null": "no value. Write one, or delete the line if the key may be left out.",
    "~": "no value. Write one, or delete the line if the key may be left out.",
    "http://me:pw@host/": "an address with a password or token in it. Params are committed to git and logged "
    "with every run: delete it, pass secrets by the environment.",
    '"\\x1b[2J"': "the invisible character U+001B (a control character). Delete it.",
    '"\\ud800"': "the invisible character U+D800 (a control character). Delete it.",
    "&a 1": "an anchor ('&'). Anchors are refused: delete it.",
    "*a": "an alias ('*') of another value. Aliases are refused: write the value itself.",
    "!!python/object/apply:os.system [x]": "a tag ('!'). Tags are refused: delete it.",
    "!include x": "a tag ('!'). Tags are refused: delete it.",
    "!!str 5": "a tag ('!'). Tags are refused: delete it.",
}


@pytest.mark.parametrize("scalar", AMBIGUOUS)
def test_scalars_that_readers_read_differently(scalar: str) -> None:
    assert refusal(edited("1e-3", scalar)) == f"13:20: train.optimizer.learning_rate: {AMBIGUOUS[scalar]}"


@pytest.mark.parametrize("scalar", ["yes", "010", "12:30:45", "0,001", ".nan", "2024-12-31", "null", "=", "<<"])
def test_in_quotes_they_are_text(scalar: str) -> None:
    root, faults = parse_nodes(f"a: '{scalar}'".encode())
    assert not faults
    assert root
    assert root.plain() == {"a": scalar}


COLON = (
    "a ':' where no key can stand. Look for a missing ':' in the line above, too deep an indentation, "
    "or a text with ': ' in it that needs quotes."
)
ALIGN = (
    "this does not continue what stands above it. Align it with its neighbours, write one key a line, "
    "and put quotes around the whole of a text."
)
YAML_FAULTS = {
    "empty": ("", "1:1: the file holds no params. A block with the keys seed, name is expected."),
    "comment only": ("# x\n", "1:1: the file holds no params. A block with the keys seed, name is expected."),
    "--- only": ("---\n", "2:1: the file holds no params. A block with the keys seed, name is expected."),
    "null": ("null\n", "1:1: no value. Write one, or delete the line if the key may be left out."),
    "text": ("abc\n", "1:1: 'abc' is a string. A block with the keys seed, name is expected."),
    "list": ("- seed: 1\n", "1:1: a list is given. A block with the keys seed, name is expected."),
    "number": ("3\n", "1:1: 3 is a whole number. A block with the keys seed, name is expected."),
    "no value": (
        "seed:\nname: a\n",
        "1:1: seed: no value. Write one, or delete the line if the key may be left out.",
    ),
    "no space": ("seed:1\n", "1:1: 'seed:1' is a string. A block with the keys seed, name is expected."),
    "duplicate key": (
        "seed: 1\nname: a\nseed: 2\n",
        "3:1: seed: this key stands in line 1 already. Keep one of the two.",
    ),
    "tabs": (
        "seed: 1\n\tname: a\n  \t# x\n",
        "2:1: a tab in the indentation, where YAML allows spaces only. Use spaces.\n"
        "3:3: a tab in the indentation, where YAML allows spaces only. Use spaces.",
    ),
    "tab before a value": ("seed:\t1\n", "1:6: a tab, where YAML allows spaces only. Use spaces."),
    "conflict": (
        "<<<<<<< HEAD\nseed: 1\n=======\nseed: 2\n>>>>>>> other\nname: a\n",
        "1:1: a git conflict marker, '<<<<<<<'. Keep one side of the conflict and delete its markers.\n"
        "3:1: a git conflict marker, '======='. Keep one side of the conflict and delete its markers.\n"
        "5:1: a git conflict marker, '>>>>>>>'. Keep one side of the conflict and delete its markers.",
    ),
    "directive": ("%YAML 1.1\n---\nseed: 1\n", "1:1: a YAML directive, '%'. None is read: delete the line."),
    "two documents": (
        "seed: 1\nname: a\n---\nseed: 2\n",
        "3:1: a second YAML document begins here. One is expected: delete '---' or the rest.",
    ),
    "merge key": (
        "seed: 1\nname: a\n<<: {seed: 2}\n",
        "3:1: '<<': a merge key. Merging is refused: write the keys themselves.",
    ),
    "recursion": (
        "seed: 1\nname: &a [*a]\n",
        "2:7: name: an anchor ('&'). Anchors are refused: delete it.\n"
        "2:11: name[0]: an alias ('*') of another value. Aliases are refused: write the value itself.",
    ),
    "anchor at a key": (
        "&a seed: 1\nname: a\n",
        "1:1: seed: an anchor ('&'). Anchors are refused: delete it.",
    ),
    "number as key": (
        "seed: 1\nname: a\n010: 2\n",
        "3:1: 010: this key is no text to some YAML readers. Write a name in letters.",
    ),
    "on as key": (
        "seed: 1\nname: a\non: 2\n",
        "3:1: on: this key is no text to some YAML readers. Write a name in letters.",
    ),
    "no key": (
        "seed: 1\nname: a\n: 2\n",
        "3:1: '': this key is no text to some YAML readers. Write a name in letters.",
    ),
    "list as key": ("[a]: 1\n", "1:1: this key is a list or a block. Write 'name: value'."),
    "alias as key": (
        "*a : 1\n",
        "1:1: an alias ('*') of another value. Aliases are refused: write the value itself.",
    ),
    "invisible key": (
        '"\\u202e": 1\n',
        "1:1: '\\u202e': the invisible character U+202E (RIGHT-TO-LEFT OVERRIDE). Delete it.",
    ),
    "missing colon": ("seed: 1\nname\n", "2:1: this line has no ':' after its key. Write 'key: value'."),
    "two colons": (
        "seed: 1\nname: a: b\n",
        f"2:8: {COLON}",
    ),
    "indented too far": (
        "seed: 1\n  name: a\n",
        f"2:7: {COLON}",
    ),
    "indented unlike its neighbours": (
        "train:\n    seed: 1\n  name: a\n",
        f"3:3: {ALIGN}",
    ),
    "open quote": ("seed: 1\nname: 'a\n\n", "2:7: this quoted text has no end. Close its quote."),
    "open list": (
        "seed: [1, 2\nname: a\n",
        "1:7: this list has no end, or lacks a comma. Close '[' with ']'.",
    ),
    "open braces": (
        "seed: {a: 1\nname: a\n",
        "1:7: this block has no end, or lacks a comma. Close '{' with '}'.",
    ),
    "at sign": ("seed: @a\n", "1:7: this character cannot begin a value. Put text in quotes."),
    "comma": ("seed: ,\n", "1:7: a value is missing here. Write one, or put text in quotes."),
    "escape": (
        'name: "C:\\qux"\n',
        "1:11: an escape after '\\' that YAML does not know. Use single quotes, or '\\\\' for a backslash.",
    ),
    "escape without character": (
        'seed: 1\nname: "\\U00110000"\n',
        "2:1: an escape from here on names no character, such as '\\U00110000'. Use single quotes.",
    ),
    "list in a line": ("name: - a\n", "1:7: a '-' where no list can begin. Put it in a line of its own."),
    "after the end": (
        "- 1\nseed: 1\n",
        f"2:1: {ALIGN}",
    ),
    "a fault and then broken": (
        "seed: 010\nname: 'a\n",
        "1:7: seed: 010 is an ambiguous number: YAML readers differ on its base. "
        "Write a decimal without leading 0.\n"
        "2:7: this quoted text has no end. Close its quote.",
    ),
    "rare": ("seed: |x\n", "1:8: expected chomping or indentation indicators, but found 'x'."),
}


@pytest.mark.parametrize(("content", "faults"), YAML_FAULTS.values(), ids=YAML_FAULTS)
def test_what_is_no_plain_yaml(content: str, faults: str) -> None:
    assert refusal(content, Small) == faults


@pytest.mark.parametrize(
    ("content", "faults"),
    [
        ("seed: 1".encode("utf-16"), "1:1: this is UTF-16 text. UTF-8 is expected: save the file as UTF-8."),
        (
            "seed: 1".encode("utf-16-be"),
            "1:1: this is UTF-16 text. UTF-8 is expected: save the file as UTF-8.",
        ),
        (
            "# r\r\nname: é".encode("latin-1"),
            "2:7: the byte 0xe9 is not UTF-8; the text may be Latin-1. Save the file as UTF-8.",
        ),
        (b"seed: 1\nname: a\0b", "2:8: the invisible character U+0000 (a control character). Delete it."),
        (b"seed: 1 # \x1b[31m", "1:11: the invisible character U+001B (a control character). Delete it."),
        (
            "seed: 1 # \u202e".encode(),
            "1:11: the invisible character U+202E (RIGHT-TO-LEFT OVERRIDE). Delete it.",
        ),
        (
            "seed: 1\n\ufeffname: a".encode(),
            "2:1: the invisible character U+FEFF (ZERO WIDTH NO-BREAK SPACE). Delete it.",
        ),
        (b"\n\x1b", "2:1: the invisible character U+001B (a control character). Delete it."),
        (b"\n\n a\x07", "3:3: the invisible character U+0007 (a control character). Delete it."),
        (b"#" * 65537, "1:1: larger than 64 KiB, which no params are. Remove what does not belong here."),
    ],
)
def test_what_is_no_plain_text(content: bytes, faults: str) -> None:
    assert refusal(content, Small) == faults


def test_64_kib_are_read() -> None:
    content = b"seed: 1\nname: a\n"
    assert parse_yaml(content + b"#" * (65536 - len(content)), "p", Small).seed == 1


DEEP = "nested deeper than 8 levels. Take levels away."
BOMBS = {
    "brackets": (b"[" * 65000, f"1:9: {DEEP}"),
    "braces": (b"{a: " * 16000, f"1:33: {DEEP}"),
    "dashes": (b"- " * 32000, f"1:17: [0][0][0][0][0][0][0][0]: {DEEP}"),
    "indentation": (b"".join(b" " * n + b"a:\n" for n in range(350)), f"9:9: a.a.a.a.a.a.a.a: {DEEP}"),
    "questions": (b"? " * 32000, "1:3: this key is a list or a block. Write 'name: value'."),
}


@pytest.mark.parametrize(("content", "faults"), BOMBS.values(), ids=BOMBS)
def test_depth_bombs(content: bytes, faults: str) -> None:
    seconds = []
    for _ in range(3):  # the least counts: the others may be what another process took
        started = time.thread_time()
        assert refusal(content, Small) == faults
        seconds.append(time.thread_time() - started)
    assert min(seconds) < 0.05


def test_eight_levels_are_read() -> None:
    root, faults = parse_nodes(b"[" * 8 + b"]" * 8)
    assert not faults
    assert root
    assert root.plain() == [[[[[[[[]]]]]]]]


def test_alias_bomb() -> None:
    levels = "bcdefghij"
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
        for before, name in zip("a" + levels, levels, strict=False)
    )
    tracemalloc.start()
    started = time.thread_time()
    faults = refusal(bomb, Small).split("\n")
    seconds, (_, peak) = time.thread_time() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "1:4: a: an anchor ('&'). Anchors are refused: delete it." in faults
    assert len(faults) == 31
    assert faults[-1].endswith(": more from here on. Mend the above first.")
    assert seconds < 0.05
    assert peak < 10 << 20


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300))
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_floats_survive_to_the_last_bit(value: float) -> None:
    class Number(Block):
        value: float

    assert parse_yaml(f"value: {value!r}".encode(), "p", Number).value == value


@pytest.mark.parametrize(("count", "seed"), [(600, 1)], ids=["600"])
def test_mutants_are_read_as_dvc_reads_them_or_refused(count: int, seed: int) -> None:
    check_mutants(count, seed)


def test_mutants_repeat() -> None:
    assert list(mutants(b"a: 1\n", 50, seed=3)) == list(mutants(b"a: 1\n", 50, seed=3))
    assert list(mutants(b"a: 1\n", 50, seed=3)) != list(mutants(b"a: 1\n", 50, seed=4))


TOKENS = {
    "aws": "AKIA" + "IOSFODNN7EXAMPLE", "github": "ghp_" + "a1B2" * 9, "github fine": "github_pat_" + "11ABCDEFG" * 4,
    "gitlab": "glpat-" + "x1" * 10, "slack": "xoxb-" + "1234567890-abc", "openai": "sk-" + "proj-" + "aB3" * 12,
    "hugging face": "hf_" + "aB1" * 11, "google": "AIza" + "SyD3" * 9,
    "jwt": "eyJ" + "hbGciOiJIUzI1NiJ9.eyJzdWIiOiIx.a",
    "assigned": "token=" + "abcdef123", "password": "Password=" + "hunter22",
    "key": "-----BEGIN " + "RSA PRIVATE KEY-----",
}  # fmt: skip
PLACES = (
    "a: {}",
    "a: '{}'",
    "a: [1, '{}']",
    "'{}': 1",
    "b: 1 # {}",
    "# {}",
    "a: |\n  b\n  {}",
    "a: {{b: {{c: '{}'}}}}",
)


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("place", PLACES)
def test_a_known_token_is_refused_wherever_it_stands_and_not_repeated(token: str, place: str) -> None:
    secret = TOKENS[token]
    _, faults = parse_nodes(f"seed: 1\n{place.format(secret)}\n".encode())
    assert faults
    assert any("looks like a password, a token or a key. Params are committed" in fault.message for fault in faults)
    assert all(fault.at[0] >= 2 for fault in faults)
    assert secret not in str(faults)


@pytest.mark.parametrize("text", [
    "sk-learn-and-keras-compared-at-length", "risk-averse-tokens", "a token: what is it?",
    "the secret of password lengths",
    "eyJ", "hf_accuracy", "0123456789abcdef0123456789abcdef01234567", "AKIA", "learned token embeddings = better?",
])  # fmt: skip
def test_what_is_no_token_is_taken(text: str) -> None:
    assert parse_nodes(f"question: '{text}'\n".encode())[1] == []
