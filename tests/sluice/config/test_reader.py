"""Reading only the models whose text has changed gives what reading the whole text gives."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sluice.config import ConfigError, GatewayConfig
from sluice.config import document as document_module
from sluice.config import model_blocks as model_blocks_module
from sluice.config.document import Node, parse
from sluice.config.errors import KeyPath, Place
from sluice.config.load import ConfigText, loads
from sluice.config.reader import ConfigReader

ENDPOINTS = '{endpoints: [{address: "h:1"}]}'
MODELS = (
    "  NAME:\n    versions: {v1: ENDPOINTS}\n",
    "  NAME: {versions: {v1: ENDPOINTS}}\n",
    "  NAME:\n    # a comment\n\n    type: a\n     b\n    versions: {v1: ENDPOINTS}\n# another\n",
    "  NAME:\n    access:\n      allow:\n      - subjects:\n        - |\n         text\n"
    "    versions:\n      v1: ENDPOINTS\n\n",
    '  NAME:\n    access: {allow: [{subjects: ["a\n      b"]}]}\n    versions: {v1: ENDPOINTS}\n',
    "  NAME:\n    versions: {v1: ENDPOINTS}\n    access:\n      allow:\n      - subjects:\n"
    "        - >+\n          a\n\n",
    "  NAME:\n    versions:\n      v1: &e ENDPOINTS\n      v2: *e\n    stable: v1\n",
    "  NAME:\n    paths: [/x]\n    versions: {v1: ENDPOINTS}\n",
    '  "NAME": {versions: {v1: ENDPOINTS}}\n',
    "  NAME: {versions: {v1: ENDPOINTS}, max_body: true}\n",
    "  NAME: {versions: {v1: ENDPOINTS}, canaries: [{version: v1, percent: true}]}\n",
)
HEADS = (
    "",
    "requests: {max_body: 1MiB}\n",
    "# a comment\n---\n",
    "requests: &a {}\n",
    "%TAG ! tag:x,2000:\n---\n",
    "limits: {models: {a: {rate: 1, burst: 1}}}\n",
    "{\n",
    '"',
    'control_plane: {allowed_hosts: ["\n',
)
KEYS = ("models:\n", "models: # all\n", "models:\n# a comment\n\n", "models: {}\n", "models: &m\n")
TAILS = (
    "",
    "limits: {models: {b: {rate: 1, burst: 1}}}\n",
    "requests: {}\n",
    "auth: *a\n",
    "# a comment\n",
    "...\n",
    "- a\n",
    "}\n",
    '"]}\n',
    "telemetry: {reports: {enabled: false}}",
    "models: {}\n",
)
FRAGMENTS = (
    '"', "'", '"a\n', "{", "}", "[", "]", "&a ", "*a", "!x ", "!!str ", "|\n", ">\n", "|+\n",
    "|1\n", "# c\n", "#", "\n", "\n\n", " ", "  ", "\t", "- ", "? ", ": ", ":", "---\n", "...\n",
    "%YAML 1.1\n", "<<: *a\n", "models:\n", "  a:\n", "  b: {}\n", "x", "true", "1", "\r", "\x85",
    "\u2028", "\ufeff", "\\", ",", "\x00", '    type: "x\n  y"\n', "    type: x\n     y\n",
)  # fmt: skip
PATHS: tuple[KeyPath, ...] = (
    (), ("models",), ("limits", "models", "b", "rate"), ("requests", "max_body"), ("absent",),
    *(("models", name, *path) for name in "abx" for path in (
        (), ("versions", "v1", "endpoints", 0, "address"), ("type",), ("absent",))),
)  # fmt: skip


def usual(choices: tuple[str, ...], number: int) -> st.SearchStrategy[str]:
    """One of the choices, mostly one of the first, which are valid."""
    return st.one_of(st.sampled_from(choices[:number]), st.sampled_from(choices))


@st.composite
def texts(draw: st.DrawFn) -> str:
    """The text of a config, in various and hostile forms."""
    names = draw(st.lists(st.sampled_from("abcd"), unique=True, max_size=4))
    models = "".join(draw(usual(MODELS, 6)).replace("NAME", name) for name in names)
    models = models.replace("ENDPOINTS", ENDPOINTS)
    indent = draw(st.sampled_from(("  ", "  ", " ", "    ")))
    lines = [
        indent + line[2:] if line.startswith("  ") else line
        for line in models.splitlines(keepends=True)
    ]
    return draw(usual(HEADS, 2)) + draw(usual(KEYS, 3)) + "".join(lines) + draw(usual(TAILS, 3))


@st.composite
def edited(draw: st.DrawFn, text: str) -> str:
    """A text after one edit, often at the begin of a line."""
    at = draw(st.integers(0, len(text)))
    if draw(st.booleans()):
        at = text.rfind("\n", 0, at) + 1
    inserted = draw(st.one_of(st.just(""), usual(FRAGMENTS, len(FRAGMENTS)), texts()))
    removed = draw(st.sampled_from((0, 0, 1, 4, 20)))
    return text[:at] + inserted + text[at + removed :]


@st.composite
def histories(draw: st.DrawFn) -> list[str]:
    """A text, and the same text with edits: each is of the first text or of the one before."""
    history = [draw(texts())]
    for _ in range(draw(st.integers(1, 4))):
        history.append(draw(edited(draw(st.sampled_from((history[0], history[-1]))))))
    return history


def whole(text: str) -> tuple[GatewayConfig, Place] | str:
    try:
        return loads(text, "f"), ConfigText(text, "f").problem
    except ConfigError as error:
        return str(error)


def in_parts(reader: ConfigReader, text: str) -> tuple[GatewayConfig, Place] | str:
    try:
        return reader.read(text, "f")
    except ConfigError as error:
        return str(error)


A, B = (MODELS[0].replace("NAME", name).replace("ENDPOINTS", ENDPOINTS) for name in "ab")
QUOTED = f'models:\n{A}  b:\n    type: "x\n{A}  c"\n    versions: {{v1: {ENDPOINTS}}}\n'


@given(histories())
@example([f"models:\n{A}{B}", QUOTED])
@example([f"models:\n{A}", f"models:\n{A}{A}    type: x\n"])
@example([f"models:\n{A}", f"models:\n{A}    max_body: true\n"])
@example([f"models:\n{A}{B}", f"models:\n{A}{B}models:\n{A}"])
@example([f"models:\n{A}", f"{{\nmodels:\n{A}}}\n"])
@example([f"requests: {{}}\nmodels:\n{A}", f'"requests\nmodels:\n{A}": 1\n'])
@example([f"models:\n{A}", f"--- |\nmodels:\n{A}"])
@example([f"models:\n{A}", f"models:\n{A}- x\n"])
@example([f"models:\n{A}", f"models:\n{A} b: {{versions: {{v1: {ENDPOINTS}}}}}\n"])
@example([f"models:\n{A}", f"models:\n  b:\n  - &x\n{A}"])
@example([f"models:\n{A}", f"%TAG !! tag:x,2000:\n---\nmodels:\n{A}    type: !!str x\n"])
@example([f"models:\n{A}", f"models:\n  ? b\n  : x\n{A}"])
def test_reading_in_parts_gives_the_same_as_reading_the_whole(history: list[str]) -> None:
    reader = ConfigReader()
    for text in history:
        expected, found = whole(text), in_parts(reader, text)
        if isinstance(expected, str) or isinstance(found, str):
            assert found == expected
            continue
        (config, place), (read, read_place) = expected, found
        assert read == config
        assert list(read.models) == list(config.models)
        unset = [each.model_dump(exclude_unset=True) for each in (read, config)]
        assert unset[0] == unset[1]
        for path in PATHS:
            assert read_place(path, "wrong") == place(path, "wrong")


def many(count: int) -> list[str]:
    """The text of each of many models."""
    return [
        f'  m{number}:\n    versions:\n      v1: {{endpoints: [{{address: "h:{number + 1}"}}]}}\n'
        for number in range(count)
    ]


def test_an_edit_of_one_model_reads_one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []

    def counted(text: str, *, alone: bool = False) -> Node | None:
        root = parse(text, alone=alone)
        counts.append(0 if root is None else root.nodes)
        return root

    monkeypatch.setattr(model_blocks_module, "parse", counted)
    monkeypatch.setattr("sluice.config.load.parse", counted)
    work: dict[int, int] = {}
    for size in (10, 1_000):
        reader, models = ConfigReader(), many(size)
        before, _ = reader.read("models:\n" + "".join(models) + "limits: {}\n", "f")
        models[3] = models[3].replace("h:4", "h:5")
        del counts[:]
        after, place = reader.read("models:\n" + "".join(models) + "limits: {}\n", "f")
        place(("models", "m5", "versions"), "wrong")
        work[size] = sum(counts)
        changed = [name for name in after.models if after.models[name] is not before.models[name]]
        assert changed == ["m3"]
        assert after.models["m3"].versions["v1"].endpoints[0].address == "h:5"
    assert work[1_000] == work[10] < 30


def test_a_wrong_version_in_between_does_not_read_the_other_models_again() -> None:
    reader = ConfigReader()
    before, _ = reader.read(f"models:\n{A}{B}", "f")
    with pytest.raises(ConfigError, match="f:6: limits: write"):
        reader.read(f"models:\n{A}{B}limits: 5\n", "f")
    after, _ = reader.read(f"models:\n{A}", "f")
    assert after.models["a"] is before.models["a"]


def test_a_read_that_keeps_nothing_does_not_read_the_other_models_again() -> None:
    reader = ConfigReader()
    before, _ = reader.read(f"models:\n{A}{B}", "f")
    between, _ = reader.read(f"models:\n{B}", "f", keep=False)
    after, _ = reader.read(f"models:\n{A}", "f")
    assert between.models["b"] is before.models["b"]
    assert after.models["a"] is before.models["a"]


def test_the_bounds_of_a_document_count_models_that_were_not_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models = many(10)
    text = "models:\n" + "".join(models)
    root = parse(text)
    assert root is not None
    for module in (model_blocks_module, document_module):
        monkeypatch.setattr(module, "MAX_NODES", root.nodes)
    reader = ConfigReader()
    reader.read(text, "f")
    with pytest.raises(ConfigError, match="more than a million nodes"):
        reader.read(f"{text}    type: x\n", "f")
    for module in (model_blocks_module, document_module):
        monkeypatch.setattr(module, "MAX_CHARACTERS", root.characters)
        monkeypatch.setattr(module, "MAX_NODES", 2 * root.nodes)
    with pytest.raises(ConfigError, match="more than 16 Mi characters"):
        reader.read(text.replace("m3:", "m33:"), "f")
