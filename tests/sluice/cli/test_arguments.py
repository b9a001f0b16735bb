"""Wrong arguments: the error names the argument, suggests a similar name, and shows the usage."""

import pytest

from sluice.cli import main


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
        ("validate -x", "sluice validate: error: unexpected argument -x"),
        ("profile --seconds x", "sluice profile: error: --seconds: write a whole number, not x"),
        ("up --ready-timeout x", "sluice up: error: --ready-timeout: write a number, not x"),
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
    assert usage.startswith("usage: sluice ")
    assert last.startswith(error)


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
