"""The page in a browser: charts and tables come up, and nothing of a label runs."""

import html
import html.parser
import json
import re
import shutil
import subprocess

import pytest

from tests.frontier.made_up import SMALL, changed_model, synthetic
from undo_jax.frontier import report

BROWSER = next(
  filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
  None,
)
EVIL = """</script><img src=x onerror="document.title='broken'"> "quoted\""""
# Waits until all is drawn, uses the page as a reader does, and says what came of it.
USE = """
const wait = setInterval(() => {
  if (!document.documentElement.dataset.charts) return;
  clearInterval(wait);
  const text = (rows) => rows.map((row) => row.cells[0].textContent);
  const table = document.querySelector(".scroll table");
  const rows = () => [...table.tBodies[0].rows];
  const heads = [...table.tHead.rows[0].cells].map((head) => head.textContent);
  const button = table.tHead.rows[0].cells[2].querySelector("button");
  button.click();
  const up = text(rows());
  button.click();
  const down = text(rows());
  const seeds = [...document.querySelectorAll(".scroll")].pop();
  const input = seeds.previousElementSibling.querySelector("input");
  input.value = "base 1";
  input.dispatchEvent(new Event("input"));
  const left = [...seeds.querySelectorAll("tbody tr")].filter((row) => !row.hidden);
  const entry = [...document.querySelectorAll(".live text")]
    .find((each) => each.textContent.startsWith("UNDO"));
  const { x, y } = entry.getBoundingClientRect();
  const at = { bubbles: true, clientX: x + 2, clientY: y + 2, view: window };
  for (const type of ["pointerdown", "mousedown", "pointerup", "mouseup", "click"]) {
    entry.dispatchEvent(new MouseEvent(type, at));
  }
  setTimeout(() => {
    const faded = new Set(
      [...document.querySelectorAll("tr.faded")].map((row) => row.dataset.method));
    const dim = [...document.querySelectorAll(".chart")].map((chart) =>
      chart.querySelectorAll('.live [opacity="0.08"]').length);
    const said = { heads, up, down, left: text(left), faded: [...faded], dim };
    document.body.append(Object.assign(document.createElement("pre"),
      { id: "said", textContent: JSON.stringify(said) }));
  }, 1000);
}, 50);
"""
# A browser's own window is at least 500 pixels wide, a frame in it is not.
PHONE = """<!doctype html>
<body><iframe src="report.html" width="360" height="800" frameborder="0"></iframe>
<script>
const wait = setInterval(() => {
  const page = document.querySelector("iframe").contentDocument;
  if (!page?.documentElement?.dataset.charts) return;
  clearInterval(wait);
  const root = page.documentElement;
  const drawn = [...page.querySelectorAll(".chart svg")].filter((each) =>
    !each.closest(".live"));
  const said = { width: root.clientWidth, scrolled: root.scrollWidth,
    drawn: drawn.length, titled: drawn.filter((each) =>
      each.getAttribute("role") === "img" && each.querySelector("title")).length };
  document.body.append(Object.assign(document.createElement("pre"),
    { id: "said", textContent: JSON.stringify(said) }));
}, 50);
</script></body>
"""


def dom(path, *, width=1280):
  """Return a page's elements after its scripts, and what they logged."""
  command = [
    *(str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
    *("--enable-logging=stderr", f"--window-size={width},900"),
    *("--virtual-time-budget=30000", "--allow-file-access-from-files"),
    path.as_uri(),
  ]
  done = subprocess.run(command, capture_output=True, text=True, timeout=300)
  console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
  return done.stdout, console


def elements(page):
  """Return the names of a page's elements."""
  names = set()
  reader = html.parser.HTMLParser()
  reader.handle_starttag = lambda tag, attrs: names.add(tag)
  reader.feed(page)
  return names


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  results = synthetic((*SMALL, "rmu"), 20, seeds=(0, 1), second_attack=True)
  results = changed_model(results, "rmu", label=EVIL)
  return report.write(results, tmp_path_factory.mktemp("page"))[-1]


@pytest.mark.processes
@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
def test_charts_and_tables_come_up_under_the_policy_of_the_page(written):
  page, console = dom(written, width=400)
  assert console == []
  assert 'data-charts="6"' in page and page.count('class="chart drawn"') == 6
  assert "<title>Forgetting that lasts: arithmetic, mean of seeds 0, 1</title>" in page
  assert "img" not in elements(page)
  # Of a phone's width.
  widths = re.findall(r'class="live[^>]*>.*?<svg[^>]* width="(\d+)"', page, re.DOTALL)
  assert len(widths) == 6 and max(map(int, widths)) < 360


@pytest.mark.processes
@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
def test_on_a_phone_only_tables_scroll_sideways_and_figures_have_titles(written):
  phone = written.with_name("phone.html")
  phone.write_text(PHONE)
  page, console = dom(phone)
  assert console == []
  said = json.loads(html.unescape(re.search('<pre id="said">(.*?)</pre>', page)[1]))
  assert said["scrolled"] == said["width"] <= 360
  assert said["titled"] == said["drawn"] >= 6


@pytest.mark.processes
@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
def test_a_reader_sorts_filters_and_chooses(written):
  text = written.read_text()
  policy = re.search('<meta http-equiv="Content-Security-Policy".*?>', text)[0]
  used = written.with_name("used.html")
  body, _, end = text.replace(policy, "").rpartition("</body>")
  used.write_text(f"{body}<script>{USE}</script></body>{end}")
  page, console = dom(used)
  assert console == []
  said = json.loads(html.unescape(re.search('<pre id="said">(.*?)</pre>', page)[1]))
  assert said["heads"][2] == "forget before"
  # Of equal scores the order of the config.
  order = ["data filtering", "MaxEnt", "UNDO α = 0.3", EVIL, "base"]
  assert said["up"] == order
  assert said["down"][0] == "base" and said["down"][-1] == "data filtering"
  assert said["left"] == ["base"]
  assert set(said["faded"]) == {"base", "data filtering", "MaxEnt", EVIL}
  assert min(said["dim"]) > 5
