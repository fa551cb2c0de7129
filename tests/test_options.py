"""Options come from settings: a field of a dataclass is an option of every command that takes it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Literal

import pytest
import typer
from typer.testing import CliRunner

from borngap.cli import app, main
from borngap.cli.options import HELP_PANELS, Takes, from_settings, texts
from borngap.pilot.settings import Piloting
from borngap.remedies.settings import Remedying
from borngap.scanning.settings import Scanning
from borngap.training import Training

COMMANDS = typer.main.get_command(app).commands
ALL = {**COMMANDS, **{f"zoo {name}": command for name, command in COMMANDS["zoo"].commands.items()}}
DIFFERENT = {"rate": "--lr"}  # the only option that has another name than its field
# what a command does not take of the settings: all else it must take
LEFT_OUT = {
    ("finetune", Training): set(),
    ("critical", Training): {"rate", "stop", "forward", "dropout", "lora_dropout"},
    ("forecast", Training): {"seed", "joint", "shuffle", "forward", "stop"},
    ("forecast", Piloting): {"chunk", "seed", "epochs"},
    ("remedy", Training): {"joint", "shuffle", "forward", "stop", "criterion", "rival_loss", "penalty", "optimizer"},
    ("remedy", Remedying): {"chunk", "seed"},
    ("sweep", Training): {"rate", "seed", "joint", "batch_size", "shuffle", "criterion"},
    ("scan", Scanning): {"pairs", "terms"},
}
_SAME_NAME = {"--criterion", "--pairs", "--terms", "--epochs", "--seed"}  # of the command itself, or of its training
OWN_DEFAULTS = {("sweep", "method"): "lora", ("remedy", "method"): "lora"}


def options(command):
    return {option.opts[0]: option for option in ALL[command].params}


def flag(name):
    return DIFFERENT.get(name, f"--{name.replace('_', '-')}")


@pytest.mark.parametrize(("command", "settings"), LEFT_OUT)
def test_a_command_takes_every_field_of_its_settings(command, settings):
    offered, out = options(command), LEFT_OUT[command, settings]
    for entry in fields(settings):
        if entry.name in out:
            continue
        default = OWN_DEFAULTS.get((command, entry.name), entry.default)
        assert default is not MISSING
        shown = offered[flag(entry.name)].default
        assert (tuple(shown) if isinstance(default, tuple) else shown) == default, entry.name
        assert offered[flag(entry.name)].help == texts(settings)[entry.name]


def test_an_option_may_have_a_panel_of_its_own():
    assert options("geometry")["--pairs"].rich_help_panel == "Options"
    assert options("report")["--geometry"].rich_help_panel == "Options"
    assert options("scan")["--pairs"].rich_help_panel == "Rivals"
    assert list(options("geometry"))[:4] == ["--model", "--pairs", "--seed", "--json"]


def test_no_other_option_of_training_is_offered():
    for (command, settings), out in LEFT_OUT.items():
        assert options(command).keys() & {flag(name) for name in out} <= _SAME_NAME, settings


@dataclass(frozen=True)
class Base:
    """Base.

    Attributes:
        old: what was
            there before.
    """

    old: int = 3


@dataclass(frozen=True)
class Settings(Base):
    """Settings.

    Attributes:
        new: a ``new`` one, in [0, 1).
        many: whole numbers.
        names: some of two.
        one: one of two.
        on: leave it on.
        off: leave it off.

    Raises:
        UserError: never.
    """

    new: float | None = None
    many: tuple[int, ...] = (1, 2)
    names: tuple[Literal["a", "b"], ...] = ()
    one: Literal["a", "b"] | None = None
    on: bool = True
    off: bool = False


def built(*arguments, takes=Takes()):  # noqa: B008
    made = []

    def command(*, settings: Annotated[Settings, takes], again: Base, by: Literal["x", "y"] = "x") -> None:
        made.extend([settings, again, by])

    command.__annotations__ = {"settings": Annotated[Settings, takes], "again": Base,
                               "by": Annotated[Literal["x", "y"], typer.Option(help="Way.")]}  # fmt: skip
    one = typer.Typer(pretty_exceptions_enable=False)
    one.command()(from_settings(command))
    result = CliRunner().invoke(one, list(arguments))
    return made, result


def test_a_new_field_is_an_option_by_itself():
    made, result = built("--help")
    assert (made, result.exit_code) == ([], 0)
    shown = " ".join(result.stdout.replace("│", " ").split())
    for text in ("--new <float> A `new` one, in [0, 1).", "--many <int,...> Whole numbers.",
                 "--old <int> What was there before. [default: 3]", "--names <a|b,...> Some of two.",
                 "--one <a|b> One of two.", "[default: 1, 2]", "--off Leave it off."):  # fmt: skip
        assert text in shown
    assert "--no-on" in shown
    assert "--no-off" not in shown


def test_settings_are_built_and_a_field_of_two_is_one_option():
    assert built()[0] == [Settings(), Base(), "x"]
    made, _ = built("--old", "5", "--new", "0.5", "--many", "4,5", "--many", "6", "--names", "b, a", "--one", "b",
                    "--no-on", "--off", "--by", "y")  # fmt: skip
    assert made == [Settings(5, 0.5, (4, 5, 6), ("b", "a"), "b", False, True), Base(5), "y"]


def test_what_a_command_leaves_out_keeps_its_default():
    takes = Takes(without=("new",), defaults={"many": (7,)})
    assert built(takes=takes)[0][0] == Settings(many=(7,))
    assert built("--new", "1", takes=takes)[1].exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--many", "1,x"], "can't read the many\n  rule: whole numbers, comma-separated\n  found: 1, x"),
        (["--by", "z"], "unknown value of --by\n  rule: one of x, y\n  found: z"),
    ],
)
def test_a_wrong_value_is_one_message(arguments, said):
    made, result = built(*arguments)
    assert (made, str(result.exception)) == ([], said)


@pytest.mark.parametrize("takes", [Takes(without=("gone",)), Takes(defaults={"gone": 1})])
def test_a_field_that_is_gone_is_noticed(takes):
    with pytest.raises(TypeError, match="Settings has no gone"):
        built(takes=takes)


def test_two_meanings_of_one_option_are_noticed():
    with pytest.raises(TypeError, match="two options old"):
        built(takes=Takes(defaults={"old": 4}))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["finetune", "-m", "docs-gpt2-s", "-o", "R", "--method", "half"], "unknown method"),
        (["finetune", "-m", "docs-gpt2-s", "-o", "R", "--beta1", "1"], "beta1 is out of range"),
        (["finetune", "-m", "docs-gpt2-s", "-o", "R", "--freeze", "head"], "unknown part to freeze"),
        (["sweep", "-m", "docs-gpt2-s", "--lrs", "1e-4", "--plan", "--freeze", "readout"], "lora trains no parts"),
        (["sweep", "-m", "docs-gpt2-s", "--lrs", "1e-4", "--plan", "--engine", "fast"], "unknown value of --engine"),
        (["sweep", "-m", "docs-gpt2-s", "--lrs", "1e-4", "--plan", "--criterion", "rank,x"],
         "unknown value of --criterion"),
        (["critical", "-m", "docs-gpt2-s", "--stop", "none"], "No such option"),
        (["forecast", "-m", "docs-gpt2-s", "--seeds", "0,b"], "can't read the seeds"),
        (["scan", "x.jsonl", "-m", "docs-gpt2-s", "--loss", "prompts"], "loss is out of range"),
        (["scan", "x.jsonl", "-m", "docs-gpt2-s", "--bulk-pairs", "0"], "bulk_pairs is out of range"),
        (["probe", "-m", "docs-gpt2-s", "--geometry", "sphere"], "unknown geometry"),
    ],
)  # fmt: skip
def test_a_wrong_value_ends_with_the_settings_own_error(arguments, said, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["borngap", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ALL)
def test_every_option_is_explained_and_ends_its_sentence(command):
    for option in ALL[command].params:
        assert option.help, option.name
        assert option.help.endswith("."), option.name


@pytest.mark.parametrize("width", ["80", "120"])
@pytest.mark.parametrize("command", ["finetune", "sweep", "critical", "forecast", "scan", "remedy"])
def test_long_help_is_complete_and_in_panels(command, width):
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": width}).stdout
    assert max(map(len, shown.splitlines())) <= int(width)
    assert "…" not in shown, "no default is cut off"
    for option in ALL[command].params:
        assert option.opts[0].removeprefix("<") in shown
    titles = [line.split("─ ")[1].split(" ─")[0] for line in shown.splitlines() if line.startswith("╭─ ")]
    asked = {panel for panel, names in HELP_PANELS.items() if names_of(command) & set(names)}
    assert titles == [
        *["Arguments"][: command == "scan"],
        "Options",
        *(panel for panel in HELP_PANELS if panel in asked),
    ]
    common = [option for option in ALL[command].params if option.rich_help_panel is None]
    assert len(common) <= 13


def names_of(command):
    return {option.name for option in ALL[command].params}


def test_every_name_in_a_panel_is_an_option_of_some_command():
    assert {name for names in HELP_PANELS.values() for name in names} <= set().union(*map(names_of, ALL))


def test_settings_load_neither_torch_nor_polars():
    script = (
        "import sys, borngap.training, borngap.scanning.settings, borngap.sweep.plan, borngap.critical.record\n"
        "print(sorted({'torch', 'transformers', 'polars', 'scipy', 'numpy'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out == "[]\n"
