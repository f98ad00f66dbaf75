"""Names and texts of others are text in everything that is shown: on terminals, in Markdown, in HTML."""

import io
import json
import re
import sys
from html import unescape
from pathlib import Path

import pytest
from dsee_compress_cli import main as cli
from dsee_compress_cli import printing
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.table import Table

from dsee_compress import progress
from dsee_compress.plain import plain
from dsee_compress.reporting import render

from ..bundling.test_damaged import start
from ..fixtures import models
from ..fixtures.browser import Browser

MARKED = "<img src=x onerror=alert(1)>{{7*7}} [bold red]x[blink] :boom: \x1b[31m\x9b31m | \u202e `y` _z_ &lt; $1$"
NAME = f"{MARKED} ](javascript:alert(1))\n# h"
"""Of a folder."""
LINE_END = "\n"
"""A space in HTML."""
LABELS = {
    "good": "<script>alert(1)</script>|[bold red]good[/]\x1b[31m",
    "bad": "](javascript:alert(1)){{7*7}}\nbad\u202e",
}
TEXT, LABEL = "text<script>alert(1)</script>[bold red]\x1b[31m", "label|{{7*7}}\x1b[31m\n"
SHORT = ("--batch-size", 16, "--learning-rate", 1e-2)
FIRST = "document.querySelectorAll('script, img, iframe, object, embed, link, base, form, [onerror], [onload]').length"


def is_plain(text: str) -> bool:
    return plain(text, keep="\n\t") == text


@pytest.fixture(scope="module")
def marked(tmp_path_factory) -> dict:
    """A whole way from finetune to report whose names and texts are all markup, and what each command printed."""
    root = tmp_path_factory.mktemp("marked")
    base, data, run = models.write_model("bert", root / NAME), root / MARKED, root / f"run {NAME}"
    models.write_data(root / "plain", train=64, validation=16)
    data.mkdir()
    for split in ("train", "validation"):
        rows = [json.loads(line) for line in (root / "plain" / f"{split}.jsonl").read_text().splitlines()]
        models.write_jsonl(
            data / f"{split}.jsonl", [{TEXT: row["text"] + MARKED, LABEL: LABELS[row["label"]]} for row in rows]
        )
    tuned, export = run / "finetune", run / "export"
    columns = ("--text", TEXT, "--label", LABEL)
    quick = ("--samples", 10, "--rounds", 1, "--sequence-length", 8, "--threads", 1)
    printed = {}
    for command in (
        ("finetune", "--model", base, "--data", data, *columns, "--epochs", 1, *SHORT, "--output", tuned),
        ("export", tuned, "--precision", "fp32", "--output", run / NAME),
        ("prune", tuned, "--heads", 0.5, "--retune-epochs", 0, "--output", run / "prune"),
        ("export", run / "prune", "--precision", "fp32", "--output", export),
        ("validate", export, "--max-drop", 0.9, "--max-compression-drop", 0.9),
        ("benchmark", export, "--compare", run / NAME, "--baseline", run / NAME, *quick),
        ("bundle", export, "--output", run / f"bundle {NAME}"),
        ("report", run),
        ("inspect", tuned),
        ("inspect", run / f"no {NAME}"),
        ("validate", export, "--split", NAME),
        ("export", tuned, "--precision", NAME, "--output", run / "none"),
        ("finetune", "--model", f"{base} none", "--data", data, "--output", run / "none", "--debug"),
    ):
        old = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
        try:
            debug = "--debug" in command
            code = cli._run([str(argument) for argument in command if argument != "--debug"], debug=debug)
            printed[command] = (code, sys.stdout.getvalue(), sys.stderr.getvalue())
        finally:
            sys.stdout, sys.stderr = old
    return {"run": run, "printed": printed}


def test_terminals_are_given_no_commands(marked):
    codes = []
    for command, (code, out, err) in marked["printed"].items():
        assert is_plain(out), command
        assert is_plain(err), command
        codes.append(code)
        if code:
            errors = [line for line in err.splitlines() if line.startswith("error: ")]
            assert code == 2 and errors == err.splitlines()[-1:], "a line end in a name begins no line"
    assert codes == [0] * 9 + [2] * 4
    wrote = [out.splitlines()[-1] for code, out, _ in marked["printed"].values() if out.startswith("wrote ")]
    assert all(r"\x1b[31m\x9b31m" in line and r"\n# h" in line and ":boom:" in line for line in wrote)


def test_markdown_is_of_our_making_alone(marked):
    text = (marked["run"] / "report.md").read_text(encoding="utf-8")
    assert is_plain(text)
    tokens = [token for outer in whole().parse(text) for token in (outer, *(outer.children or []))]
    assert not {token.type for token in tokens} & {"html_block", "html_inline", "link_open", "image", "code_inline"}
    headings = [tokens[index + 1].content for index, token in enumerate(tokens) if token.type == "heading_open"]
    assert len(headings) == 5 and headings[0].endswith("on " + render._text_of_markdown(MARKED).replace("\x1b", ""))
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, block


def test_the_page_holds_no_element_but_ours(marked, tmp_path):
    page = marked["run"] / "report.html"
    assert is_plain(page.read_text(encoding="utf-8"))
    (tmp_path / "report.html").write_text(
        re.sub(r"<meta http-equiv=.*>", "", page.read_text(encoding="utf-8")), encoding="utf-8"
    )
    with Browser(tmp_path / "profile") as browser:
        asked = browser.open(tmp_path / "report.html", 1280)
        assert asked == [(tmp_path / "report.html").as_uri()]
        assert browser.evaluate(FIRST) == 0
        title = " ".join(f"{plain(NAME, keep=LINE_END)} on {plain(MARKED)}".split())
        assert browser.evaluate("document.title") == f"{title}: dsee-compress report"
        assert browser.evaluate("document.querySelector('h1').innerText") == title
        shown = browser.evaluate("document.body.textContent")
        assert plain(TEXT) in shown and f"{plain(NAME, keep=LINE_END)}/model.onnx" in shown
        assert browser.evaluate("document.querySelector('h1').children.length") == 0


def test_answers_on_a_device_are_ascii(marked):
    code, out, err = start(marked["run"] / f"bundle {NAME}" / "predict.py", given=f"a film {MARKED}\n".encode())
    assert (code, err) == (0, "") and out.isascii() and is_plain(out)
    assert json.loads(out)["label"] in LABELS.values()
    code, out, err = start(marked["run"] / f"bundle {NAME}" / "predict.py", f"no {NAME}.txt")
    assert (code, out) == (2, "") and len(err.splitlines()) == 1 and err.rstrip("\n").isprintable()


def whole() -> MarkdownIt:
    return MarkdownIt("commonmark").enable("table")


@given(st.text() | st.text("\\`*_{}[]()#+-.!|<>&~$\"' \n\x1b\u202eab:/", min_size=1))
def test_a_cell_of_markdown_shows_the_letters_that_it_was_given(text):
    rendered = whole().render(f"| a |\n| --- |\n| x{render._text_of_markdown(text)}x |\n")
    (cell,) = re.findall(r"<td>(.*)</td>", rendered, flags=re.DOTALL)
    assert "<" not in cell
    assert unescape(cell) == f"x{plain(text)}x"


@given(st.text())
def test_plain_text_stays_as_it_is_and_other_text_has_escapes_for_what_commands(text):
    assert plain(plain(text)) == plain(text)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]", plain(text))
    for readable in ("Grüße", "中文", "العربية", "हिन्दी", "👩‍👩‍👧", "می‌خواهم"):
        assert plain(readable) == readable


def test_consoles_take_every_str_for_text(capsys):
    table = Table("[bold]head[/]", title="[red]title[/] :boom:")
    table.add_row(MARKED)
    for console in (progress.console, printing.out):
        console.print(table, width=300)
        console.print(MARKED, soft_wrap=True)
    with progress.step(MARKED):
        pass
    for text in capsys.readouterr():
        assert is_plain(text) and "[bold]head[/]" in text and "[red]title[/] :boom:" in text
        assert plain(MARKED) in text and text.count("[blink]") >= 2


def test_a_name_that_is_no_text_in_utf8_can_be_said(tmp_path, capsys):
    folder = tmp_path / b"caf\xe9".decode(errors="surrogateescape")
    assert cli._run(["inspect", str(folder)], debug=False) == 2
    assert r"caf\udce9" in capsys.readouterr().err
    printing.wrote(Path(folder))
    assert capsys.readouterr().out.endswith("caf\\udce9\n")
