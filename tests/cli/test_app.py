import subprocess
import sys

import pytest
import typer

from pomona.cli.app import EXAMPLES, NAMES, app
from pomona.vocabulary import InputError, ProofError

COMMANDS = typer.main.get_command(app).commands
RUNS = {
    "prune": ["nets.py:net", "--goal", "macs=0.5x"],
    "inspect": ["nets.py:net"],
    "methods": [],
    "eval": ["nets.py:net", "--data", "nets.py:data"],
    "bench": ["nets.py:net", "nets.py:net"],
}


def test_there_are_ten_commands():
    assert sorted(COMMANDS) == ["advise", "bench", "demo", "doctor", "eval", "export", "inspect", "methods", "prune", "report"]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_takes_json_and_debug(name):
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert {"--json", "--debug"} <= options


@pytest.mark.parametrize(("command", "example"), [(NAMES.get(c, c.__name__), e) for c, e in EXAMPLES.items()])
def test_the_example_of_the_help_page_is_a_true_one(command, example, cli):
    word, name, *arguments = example.split()
    assert (word, name) == ("pomona", command)
    COMMANDS[name].make_context(name, arguments)
    shown = cli(name, "--help")
    assert shown.code == 0 and example in " ".join(shown.out.split()) and not shown.err


@pytest.mark.parametrize("name", sorted(RUNS))
def test_json_is_one_object_and_nothing_else(name, face, net, cli):
    ran = cli(name, *RUNS[name], "--json")
    assert ran.code == 0, ran.err
    assert isinstance(ran.json, dict)


@pytest.mark.parametrize("name", sorted(set(RUNS) - {"methods"}))
def test_what_libraries_print_goes_to_stderr(name, face, net, cli):
    ran = cli(name, *RUNS[name])
    assert ran.code == 0, ran.err
    assert "chats" in ran.err and "chats" not in ran.out


@pytest.mark.parametrize("json", [False, True])
def test_bad_input_is_one_sentence_and_code_2(json, face, net, cli):
    face.fails = InputError("The goal is silly; write macs=0.5x.")
    ran = cli("prune", net, "--goal", "macs=0.5x", *(["--json"] if json else []))
    assert ran.code == 2
    assert "The goal is silly; write macs=0.5x." in ran.err and "Traceback" not in ran.err
    assert ran.json == {"error": "The goal is silly; write macs=0.5x."} if json else ran.out == ""


def test_debug_shows_the_traceback(face, net, cli):
    face.fails = InputError("The goal is silly.")
    assert "Traceback" in cli("prune", net, "--debug").err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["prun", "x"], "'prun' is not a command; did you mean 'prune'?"),
        (["prune", "x", "--gaol", "macs=0.5x"], "There is no option --gaol; did you mean --goal?"),
        (["prune"], "MODEL"),
        (["prune", "x", "--seed", "many"], "--seed"),
        (["export", "x", "--to", "onx"], "'onx' is not an export format; did you mean 'onnx'?"),
        (["methods", "no-such-method"], "'no-such-method' is not a method"),
    ],
)
def test_wrong_words_get_the_nearest_right_ones(arguments, sentence, cli):
    ran = cli(*arguments)
    assert ran.code == 2
    assert sentence in ran.err and ran.out == "" and len(ran.err.strip().splitlines()) == 1


def test_wrong_words_are_json_too(cli):
    ran = cli("prun", "--json")
    assert ran.code == 2 and set(ran.json) == {"error"}


def test_a_failed_proof_and_a_crash_are_not_the_users_fault(face, net, cli):
    for error in (ProofError("off by 1"), RuntimeError("boom")):
        face.fails = error
        ran = cli("prune", net)
        assert ran.code == 1 and str(error) in ran.err and "Traceback" not in ran.err


def test_control_c_says_what_is_left(face, net, cli, tmp_path):
    face.fails = KeyboardInterrupt()
    ran = cli("prune", net, "-o", tmp_path / "out")
    assert ran.code == 130
    assert ran.err.strip().endswith("out was not written.") and not (tmp_path / "out").exists()


def test_without_a_command_there_is_help_and_a_version(cli):
    assert "prune" in cli().out
    assert cli("--version").out.strip() == __import__("pomona").__version__


def test_the_command_is_installed():
    command = [sys.executable, "-c", "from pomona.cli import main; main()", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True)
    assert shown.returncode == 0 and "prune" in shown.stdout
