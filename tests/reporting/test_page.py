"""The report as Chromium shows it, on a phone and on a desk, in light and dark, to eyes and to screen readers."""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest

from dsee_compress.reporting import devices, figures, render

from ..fixtures.browser import Browser

WIDTHS = (390, 1280)
OPEN_ALL = "document.querySelectorAll('details').forEach(details => details.open = true)"
FAINT_TEXT = """
(() => {
  const channels = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = colour => {
    const [red, green, blue] = channels(colour).slice(0, 3).map(value => {
      value /= 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const opaque = colour => (channels(colour)[3] ?? 1) > 0;
  const paper = element => {
    const colour = getComputedStyle(element).backgroundColor;
    return opaque(colour) || !element.parentElement ? colour : paper(element.parentElement);
  };
  const faint = [];
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const [darker, lighter] = [light(element.closest("svg") ? style.fill : style.color), light(paper(element))]
      .sort((one, other) => one - other);
    const contrast = (lighter + 0.05) / (darker + 0.05);
    if (contrast < 4.5) faint.push(`${element.textContent.trim()}: ${contrast.toFixed(2)}`);
  }
  return faint;
})()
"""
SMALLEST_TEXT = """
Math.min(...[...document.body.querySelectorAll("td, th, p, li, div, svg text")]
  .filter(element => element.textContent.trim() && element.checkVisibility())
  .map(element => parseFloat(getComputedStyle(element).fontSize)
    * (element.closest("svg") ? element.closest("svg").getScreenCTM().a : 1)))
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def page(reported, latency, tmp_path) -> Path:
    """The report with a device of its own beside ours."""
    path = tmp_path / "latency.json"
    path.write_text(json.dumps(latency))
    content = json.loads((reported / "report.json").read_text())
    content["devices"] = [devices.read(path, content["export"])]
    (tmp_path / "report.html").write_text(render.html(content, figures.draw(content)))
    return tmp_path / "report.html"


def test_the_headline_is_that_of_the_json(browser, reported, content):
    browser.open(reported / "report.html", 1280)
    shown = {
        name: browser.evaluate(f"document.getElementById({name!r}).innerText")
        for name in ("accuracy", "speedup", "smaller", "memory")
    }
    best = max((row for row in content["latency"] if not row["baseline"]), key=lambda row: row["speedup"]["value"])
    accuracy = content["accuracy"][best["artifact"].replace("pruned", "onnx")]["value"]
    assert shown == {
        "accuracy": f"{100 * accuracy:.1f} %",
        "speedup": f"{best['speedup']['value']:.2f}×",
        "smaller": f"{content['latency'][0]['size_mb'] / best['size_mb']:.2f}×",
        "memory": f"{best['peak_rss_mb']:.1f} MB",
    }


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_is_as_wide_as_the_screen_and_its_text_large_enough(browser, page, width):
    browser.open(page, width)
    browser.evaluate(OPEN_ALL)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate("document.documentElement.clientWidth") >= width - 20, "but for a scroll bar"
    assert browser.evaluate(SMALLEST_TEXT) >= 11.5


@pytest.mark.parametrize("width", WIDTHS)
def test_charts_fit_and_what_is_wider_scrolls_in_its_own_box(browser, page, width):
    browser.open(page, width)
    shown = "[...document.querySelectorAll('svg')].filter(svg => svg.checkVisibility())"
    assert browser.evaluate(f"{shown}.length") == 4, "one of the two pictures of each kind"
    assert browser.evaluate(f"Math.max(...{shown}.map(svg => svg.getBoundingClientRect().right))") <= width
    boxes = "[...document.querySelectorAll('.scroll')]"
    assert browser.evaluate(f"Math.max(...{boxes}.map(box => box.getBoundingClientRect().right))") <= width
    assert browser.evaluate(f"{boxes}.every(box => box.tabIndex === 0 && box.getAttribute('aria-label'))")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_every_text_has_a_contrast_of_at_least_4_5(browser, page, width, scheme):
    browser.open(page, width, scheme=scheme)
    browser.evaluate(OPEN_ALL)
    assert browser.evaluate(f"matchMedia('(prefers-color-scheme: {scheme})').matches")
    assert browser.evaluate(FAINT_TEXT) == []
    paper = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (min(map(int, re.findall(r"\d+", paper))) > 128) == (scheme == "light")


def test_nothing_is_fetched(browser, page):
    assert browser.open(page, 1280) == [page.as_uri()]
    policy = browser.evaluate("document.querySelector('meta[http-equiv=Content-Security-Policy]').content")
    assert policy.startswith("default-src 'none'")


def test_a_screen_reader_hears_landmarks_headings_in_order_and_named_tables(browser, page):
    browser.open(page, 1280)
    tree = [
        (node["role"]["value"], node.get("name", {}).get("value", ""), node.get("properties", []))
        for node in browser.accessibility_tree()
    ]
    roles = [role for role, _, _ in tree]
    assert browser.evaluate("document.documentElement.lang") == "en"
    assert [roles.count(role) for role in ("banner", "navigation", "main")] == [1, 1, 1]
    levels = [
        field["value"]["value"]
        for role, _, fields in tree
        if role == "heading"
        for field in fields
        if field["name"] == "level"
    ]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(deeper - level <= 1 for level, deeper in pairwise(levels))
    for role in ("table", "image", "region"):
        names = [name for known, name, _ in tree if known == role]
        assert names and all(names), role
    assert browser.evaluate("[...document.querySelectorAll('th')].every(cell => cell.scope)")
    assert browser.evaluate("[...document.querySelectorAll('table')].every(table => table.caption.textContent)")


def test_the_keyboard_reaches_everything_and_shows_where_it_is(browser, page):
    browser.open(page, 1280)
    browser.evaluate(OPEN_ALL)
    places = browser.evaluate("document.querySelectorAll('a, summary, .scroll').length")
    reached = set()
    for _ in range(places):
        browser.press("Tab")
        reached.add(browser.evaluate("[...document.querySelectorAll('*')].indexOf(document.activeElement)"))
        assert browser.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)") >= 2
    assert len(reached) == places


def test_every_call_is_drawn_outliers_too(browser, page, latency):
    """The ticks of the device's calls stand on one line, as far apart as the calls are."""
    browser.open(page, 1280)
    calls = latency["latency"][0]["raw_ms"][0]
    lines = browser.evaluate(
        "[...document.querySelector('[aria-label*=\"slowest 987.0\"]').querySelectorAll('g[id*=line2d]')]"
        ".map(line => [...line.querySelectorAll('use')].map(tick => tick.x.baseVal.value))"
    )
    (ticks,) = (line for line in lines if len(line) == len(calls))
    scale = (ticks[-1] - ticks[0]) / (calls[-1] - calls[0])
    assert ticks == pytest.approx([ticks[0] + scale * (call - calls[0]) for call in calls], abs=1e-3)
