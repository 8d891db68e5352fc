"""Shell completion, by the protocol that shells speak, and in a real Bash."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kod_bench.cli import main as cli

BEGIN = "import sys; from kod_bench.cli.main import main"
ROOT = Path(__file__).parents[2]
PLAN = "resolved:\n  models: {local: {process: kuramoto}, ddpm: {process: ddpm}}\n"

Complete = Callable[..., list[str]]


@pytest.fixture
def here(tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two spaces, one of which is broken, and with two sweeps."""
    monkeypatch.chdir(tmp_path)
    spaces = tmp_path / "search_spaces"
    spaces.mkdir()
    text = tiny_space.read_text().replace("name: tiny", "name: tiny\ndescription: A 'small' one")
    (spaces / "tiny.yaml").write_text(text + "  desktop: {}\n")
    (spaces / "broken.yaml").write_text("name: [broken")
    for stamp, trial in (("20260101-000000", "local-T4-seed0-0a"), ("20260102-000000", "ddpm-T4")):
        folder = tmp_path / "results" / "tiny" / stamp
        (folder / "trials" / trial).mkdir(parents=True)
        (folder / "sweep.yaml").write_text(PLAN)
    return tmp_path


@pytest.fixture
def spoken(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """What the command answers to a shell: on stdout alone, whatever it finds."""

    def ask(shell: str, **variables: str) -> str:
        monkeypatch.setattr(sys, "argv", ["kod-bench"])
        for name, value in {"_KOD_BENCH_COMPLETE": f"complete_{shell}", **variables}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        assert (ended.value.code, err) == (0, "")
        return out

    return ask


@pytest.fixture(params=["bash", "zsh"])
def complete(request: pytest.FixtureRequest, spoken: Callable[..., str]) -> Complete:
    """The words for the end of a line, asked for as one of the shells does."""

    def bash(line: str) -> list[str]:
        words = line.split()
        number = len(words) - (not line.endswith(" "))
        answer = spoken("bash", COMP_WORDS=line, COMP_CWORD=str(number))
        return answer.split()

    def zsh(line: str) -> list[str]:
        answer = spoken("zsh", _TYPER_COMPLETE_ARGS=line)
        assert answer.startswith(("_arguments '*: :((", "_files"))
        return re.findall(r"^(?:_arguments '\*: :\(\()?\"([^\"]*)\"", answer, re.MULTILINE)

    return bash if request.param == "bash" else zsh


def test_spaces_and_profiles(complete: Complete) -> None:
    every = complete("kod-bench sweep ")
    assert {"tiny", "broken", "textures", "cifar10"} <= set(every)
    assert complete("kod-bench sweep te") == ["terrain", "textures"]
    assert complete("kod-bench spaces show ti") == ["tiny"]
    assert complete("kod-bench spaces validate tiny ti") == []  # which is there already
    assert complete("kod-bench spaces new mine --from kuramoto-") == ["kuramoto-strengths"]
    assert complete("kod-bench data show --space ti") == ["tiny"]
    assert complete("kod-bench sweep tiny --profile ") == ["auto", "laptop", "desktop"]
    assert complete("kod-bench sweep tiny --seeds 0 --profile d") == ["desktop"]
    assert complete("kod-bench sweep --profile ") == ["auto", "laptop", "workstation", "cluster"]
    assert complete("kod-bench spaces show tiny --profile ") == ["laptop", "desktop"]
    assert complete("kod-bench data prepare --space tiny --profile d") == ["desktop"]


def test_sweeps_models_and_trials(complete: Complete) -> None:
    first, second = "20260101-000000", "20260102-000000"
    for command in ("status", "resume", "report", "compare local --sweep"):
        assert complete(f"kod-bench {command} ") == ["tiny", second, first]
    assert complete(f"kod-bench report {second} 2026") == [first]
    assert complete("kod-bench compare l") == ["local"]
    assert complete("kod-bench compare local p") == ["published"]
    assert complete("kod-bench compare ") == ["local", "ddpm", "tiny", second, first]
    assert complete(f"kod-bench report {first} --where trial") == ["trial=local-T4-seed0-0a"]
    assert complete("kod-bench report --where ") == ["model=local", "model=ddpm", "trial=ddpm-T4"]


@pytest.mark.timeout(60)
def test_names_that_act_on_a_terminal_are_not_offered(complete: Complete, here: Path) -> None:
    (here / "results/tiny/20260103-\x1b[2J").mkdir()
    (here / "results/tiny/20260103-\x1b[2J/sweep.yaml").write_text(PLAN)
    (here / "results/tiny/20260102-000000/trials/ddpm-\x1b[2J").mkdir()
    os.mkfifo(here / "search_spaces/pipe.yaml")
    assert complete("kod-bench status 2026010") == ["20260102-000000", "20260101-000000"]
    assert "trial=ddpm-T4" in complete("kod-bench report 20260102-000000 --where trial=")
    assert not any("\x1b" in word for word in complete("kod-bench report --where "))
    assert complete("kod-bench sweep ti") == ["tiny"]


def test_what_is_broken_or_absent_is_silent(complete: Complete, here: Path) -> None:
    assert complete("kod-bench sweep broken --profile ") == []
    assert complete("kod-bench sweep nothing --profile ") == []
    (here / "results/tiny/20260102-000000/sweep.yaml").write_text("resolved: [broken")
    assert complete("kod-bench compare l") == []
    shutil.rmtree(here / "results")
    assert complete("kod-bench report ") == []
    assert complete("kod-bench report --where ") == []
    assert complete("kod-bench report --results-dir s3://bucket/prefix ") == []
    (here / "search_spaces" / "latin.yaml").write_bytes(b"description: caf\xe9\n")
    (here / "search_spaces" / "gone.yaml").symlink_to("nowhere")
    assert "tiny" in complete("kod-bench sweep ")


def test_zsh_is_told_what_a_space_is_for(spoken: Callable[..., str]) -> None:
    answer = spoken("zsh", _TYPER_COMPLETE_ARGS="kod-bench sweep ti")
    assert "\"tiny\":\"A ''small'' one\"" in answer


@pytest.mark.parametrize(
    "line",
    [
        "kod-bench sweep ",
        "kod-bench sweep tiny --profile ",
        "kod-bench compare ",
        "kod-bench report --where ",
    ],
)
def test_nothing_heavy_is_imported(line: str, here: Path) -> None:
    """Modules are counted, not seconds: whoever presses Tab waits for each of them."""
    code = (
        f"{BEGIN}\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "_KOD_BENCH_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split())),
        },
        capture_output=True,
        text=True,
    )
    assert done.stdout
    heavy = {"torch", "ray", "numpy", "pandas", "pyarrow", "matplotlib", "PIL", "optuna", "plotly"}
    assert not heavy & set(done.stderr.split())


@pytest.fixture
def bash(here: Path) -> dict[str, str]:
    """The environment of a Bash that knows the command, and has its completion installed."""
    programs = here / "bin"
    programs.mkdir()
    program = programs / "kod-bench"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from kod_bench.cli.main import main\nmain()\n"
    )
    program.chmod(0o755)
    env = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(here)}
    subprocess.run(
        [program, "--install-completion", "bash"], env=env, check=True, capture_output=True
    )
    return env


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no Bash here")
def test_what_bash_is_answered(bash: dict[str, str]) -> None:
    """Bash takes `=` for a word of its own, as its completion function is told."""
    script = """
    source "$HOME/.bashrc"
    complete -p kod-bench
    function=$(complete -p kod-bench | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
    ask() {
      COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
      "$function" kod-bench "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
      echo "${COMPREPLY[@]}"
    }
    ask kod-bench sweep tiny --profile ""
    ask kod-bench report --where model = l
    ask kod-bench report 20260101-000000 --where trial = ""
    """
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-c", script], env=bash, capture_output=True, text=True
    )
    assert done.stderr == ""
    asked = done.stdout.splitlines()
    assert re.match(r"complete -o default -F \S+ kod-bench", asked[0])
    assert asked[1:] == ["auto laptop desktop", "local", "local-T4-seed0-0a"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no Bash here")
def test_a_key_pressed_in_a_real_bash(bash: dict[str, str], here: Path) -> None:
    here_end, there_end = pty.openpty()
    env = bash | {"PS1": "ready> ", "TERM": "dumb", "INPUTRC": "/dev/null"}
    process = subprocess.Popen(
        ["bash", "--noprofile", "--rcfile", here / ".bashrc", "-i"],
        env=env,
        stdin=there_end,
        stdout=there_end,
        stderr=there_end,
        start_new_session=True,
    )
    seen = b""

    def wait_for(text: bytes) -> None:
        nonlocal seen
        deadline = time.monotonic() + 60
        while text not in seen:
            assert time.monotonic() < deadline, seen
            if select.select([here_end], [], [], 1)[0]:
                seen += os.read(here_end, 4096)

    try:
        os.write(here_end, b"kod-bench sweep text\t")
        wait_for(b"kod-bench sweep textures ")
        os.write(here_end, b"--profile cl\t")
        wait_for(b"kod-bench sweep textures --profile cluster ")
    finally:
        process.kill()
        process.wait()
        os.close(here_end)
        os.close(there_end)
