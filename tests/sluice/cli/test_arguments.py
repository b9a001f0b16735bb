"""Wrong arguments: the error names the argument, suggests a similar name, and shows the usage."""

from pathlib import Path

import jwt
import pytest

from sluice.cli import main
from sluice.cli.reference import reference


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("validat x", "sluice: error: unknown command validat; did you mean validate? choose from"),
        ("EXPLAIN", "sluice: error: unknown command EXPLAIN; did you mean explain? choose from "),
        ("zzzzzzzz", "sluice: error: unknown command zzzzzzzz; choose from init, docs, up, "),
        ("status --jsn", "sluice status: error: unknown option --jsn; did you mean --json?"),
        ("token --grup a", "sluice token: error: unknown option --grup; did you mean --group?"),
        (
            "explain --datta=x",
            "sluice explain: error: unknown option --datta; did you mean --data",
        ),
        ("validate a b", "sluice validate: error: unexpected argument b"),
        ("validate -x", "sluice validate: error: unknown option -x"),
        ("validate -- -x y", "sluice validate: error: unexpected argument y"),
        ("token --sub a -- b", "sluice token: error: unexpected argument b"),
        ("key -- -a", "sluice key: error: NAME: write 1 to 63 letters"),
        ("--jsn status", "sluice: error: unknown option --jsn"),
        ("--verson", "sluice: error: unknown option --verson; did you mean --version?"),
        ("-v", "sluice: error: unknown option -v"),
        ("explain -Z /x", "sluice explain: error: unknown option -Z"),
        ("token", "sluice token: error: the following arguments are required: --sub"),
        ("profile --seconds", "sluice profile: error: --seconds: expected one argument"),
        (
            "validate --ignore idle_canry",
            "sluice validate: error: unknown value of --ignore idle_canry; did you mean idle_can",
        ),
        (
            "callout --transport tcp",
            "sluice callout: error: unknown value of --transport tcp; choose from asyncio, grpcio",
        ),
    ],
)
def test_an_error_says_what_to_write(
    arguments: str, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments.split())
    assert caught.value.code == 2
    usage, *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith(error)
    program = error.partition(": error:")[0]
    assert usage.startswith(f"usage: {program} [-h]")


_SECONDS = "write a number of seconds, or a duration such as 30s or 5m, from"
_WHOLE = "write a whole number from"
_SHARE = "write a percentage such as 10%, or a share such as 0.1, above 0 and at most 100%"
_LONG = "1" * 5000


@pytest.mark.parametrize(
    ("option", "values", "remedy"),
    [
        ("up --ready-timeout", "x -1 0 nan inf 9e99", f"{_SECONDS} 1ms to 8784h"),
        ("token --sub a --ttl", f"x -1 0s 999999999999h {_LONG}", f"{_SECONDS} 1s to 8784h"),
        ("callout --drain-timeout", "-1.0 nan 1e99", f"{_SECONDS} 0s to 8784h"),
        ("callout --hang-timeout", "-1.0 nan 1e99", f"{_SECONDS} 0s to 8784h"),
        ("callout --workers", "0 65 1.5 x", f"{_WHOLE} 1 to 64"),
        ("profile --seconds", "0 61 -5 x \u0663", f"{_WHOLE} 1 to 60"),
        ("profile --worker", "-1 64 x", f"{_WHOLE} 0 to 63"),
        ("rollback 1 --nodes", f"0 0% 101% 1.1 -1 ten 1e-2 % {_LONG}", _SHARE),
        ("init --port", f"0 -1 65535 x {_LONG}", f"{_WHOLE} 1 to 65495"),
    ],
)
def test_a_number_is_within_its_bounds(
    option: str, values: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command, *_, name = option.split()
    for value in values.split():
        with pytest.raises(SystemExit) as caught:
            main([*option.split(), value])
        assert caught.value.code == 2
        last = capsys.readouterr().err.splitlines()[-1]
        quoted = value[:9] if value.isascii() else ""
        assert last.startswith(f"sluice {command}: error: {name}: {remedy}, not {quoted}")
        assert len(last) < 300


@pytest.mark.parametrize("ttl", ["90", "90.5", "90s", "2m", "90000ms"])
def test_a_time_is_a_number_of_seconds_or_a_duration(
    ttl: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["token", "--sub", "a", "--ttl", ttl]) == 0
    claims = jwt.decode(capsys.readouterr().out.strip(), options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] in (90, 120)


@pytest.mark.parametrize(
    "command", ["validate --strict", "jwks", "explain --offline -X POST", "bootstrap"]
)
def test_everything_after_two_hyphens_is_an_argument(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    more = ["/v2/models/a"] if command.startswith("explain") else []
    assert main([*command.split(), "--", "--file", *more]) in (1, 2)
    assert "--file: the file cannot be read: No such file" in capsys.readouterr().err


def test_options_may_be_abbreviated_and_values_may_look_like_options() -> None:
    assert main(["schema"]) == 0
    with pytest.raises(SystemExit) as caught:
        main(["status", "--hel"])
    assert caught.value.code == 0


def test_an_error_escapes_and_shortens_an_argument(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["status", "--x\x1b[31m" + "y" * 1000])
    printed = capsys.readouterr().err
    assert "\x1b" not in printed
    assert len(printed.splitlines()[-1]) < 200


COMMANDS = [line.split("`")[1] for line in reference().splitlines() if line.startswith("## `")]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([*command.split()[1:], "--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {command} ")
