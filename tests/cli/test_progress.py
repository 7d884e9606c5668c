from io import StringIO

from rich.console import Console

from pomona.cli import progress
from pomona.cli.progress import Bars, Lines, watching
from pomona.vocabulary import Progress


def test_a_log_gets_plain_lines(capsys):
    shown: Progress = watching()
    assert isinstance(shown, Lines)
    with shown.stage("training", total=2) as stage:
        stage.advance(loss=0.5)
        stage.advance(loss=0.25, note="best")
    shown.note("a note")
    captured = capsys.readouterr()
    assert captured.out == ""
    first, second = captured.err.splitlines()
    assert first.startswith("training: done in") and first.endswith("loss 0.25  note best") and second == "a note"


def test_a_long_stage_speaks_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    with Lines().stage("collecting", total=4) as stage:
        stage.advance()
    assert "collecting: 1/4" in capsys.readouterr().err


def test_a_failed_stage_is_not_called_done(capsys):
    try:
        with Lines().stage("proving"):
            raise ValueError
    except ValueError:
        pass
    assert "done" not in capsys.readouterr().err


def test_a_terminal_gets_bars_that_nest_and_close():
    out = StringIO()
    bars: Progress = Bars(Console(file=out, force_terminal=True, width=120))
    for _ in range(2):  # a second run starts on a clean screen
        with bars.stage("rounds", total=1) as outer:
            with bars.stage("[red]epoch", total=2) as inner:
                inner.advance(2, loss=0.125)
            outer.advance(accuracy="91 %")
    bars.note("[bold]as it is")
    assert "rounds" in out.getvalue() and "1/1" in out.getvalue() and "91 %" in out.getvalue()
    assert "[bold]as it is" in out.getvalue() and "[red]epoch" in out.getvalue()
    assert not bars._live.tasks
