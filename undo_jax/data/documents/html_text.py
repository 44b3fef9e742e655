"""The text of an HTML page: its content, without scripts, navigation and forms.

What is left out goes by the meaning that HTML gives to elements, not by guesses about
a page's looks: elements of `LEFT_OUT`, roles of `LEFT_OUT_ROLES`, the header and footer
of the page (those of an article are its content), and what is hidden. Where a page says
which part is its main one (<main>), only that counts.
"""

import html.parser
import re

LEFT_OUT = frozenset(
  "head title script style noscript template nav aside form button select datalist "
  "textarea label dialog svg math canvas iframe object audio video".split()
)
LEFT_OUT_ROLES = frozenset(
  "navigation banner contentinfo complementary search menu menubar toolbar".split()
)
BLOCKS = frozenset(
  "address article blockquote body caption center dd details div dl dt fieldset "
  "figcaption figure footer h1 h2 h3 h4 h5 h6 header hgroup hr html li main ol p pre "
  "section summary table tbody tfoot thead tr ul".split()
)
# Elements without content, which are never closed.
VOID = frozenset(
  "area base br col embed hr img input link meta param source track wbr".split()
)
CELLS = frozenset(("td", "th"))
# Where ends are left out, a tag closes the innermost of the first elements, unless
# one of the second is nearer.
CLOSES = {
  "p": ({"p"}, BLOCKS - {"p"} | CELLS),
  "li": ({"li"}, {"ol", "ul"}),
  "dt": ({"dt", "dd"}, {"dl"}),
  "dd": ({"dt", "dd"}, {"dl"}),
  "tr": ({"tr"}, {"table"}),
  "td": (CELLS, {"tr", "table"}),
  "th": (CELLS, {"tr", "table"}),
}
_LINE, _CELL, _SPACE = "\n", "\v", "\f"  # Marks in parts; text holds none of them.


def extract(page: str) -> str:
  """Returns a page's text, a line for each paragraph, heading, item and table row.

  White space counts inside <pre> only; the cells of a row are joined by " | ". Where
  all children of an element are hidden, a script shows one of them; the last stands
  for all, as it is the one for other readers in pages that name their readers.

  Args:
    page: the HTML, well-formed or not.

  Returns:
    Lines without blank ones; "" for a page without content.
  """
  reader = _Reader()
  reader.feed(page)
  reader.close()
  return _lines(reader.text())


class _Element:
  """An open element and the parts of text that were found in it."""

  def __init__(self, tag: str, *, left_out: bool, hidden: bool, is_pre: bool):
    self.tag, self.left_out, self.hidden, self.is_pre = tag, left_out, hidden, is_pre
    self.parts: list[str] = []
    self.alternatives: list[list[str]] = []  # Of hidden children.


class _Reader(html.parser.HTMLParser):
  """Gathers text element by element; an element's goes to its parent at its end."""

  def __init__(self):
    super().__init__(convert_charrefs=True)
    self._open = [_Element("", left_out=False, hidden=False, is_pre=False)]
    self._main: list[str] = []

  def text(self) -> str:
    while len(self._open) > 1:
      self._end()
    return "".join(self._main or self._open[0].parts)

  def handle_starttag(self, tag, attrs):
    if tag in VOID:
      self._add({"br": _LINE, "hr": _LINE}.get(tag, ""))
      return
    self._close_previous(tag)
    attributes = dict(attrs)
    self._open.append(
      _Element(
        tag,
        left_out=self._is_left_out(tag, attributes),
        hidden="hidden" in attributes or attributes.get("aria-hidden") == "true",
        is_pre=tag == "pre" or self._open[-1].is_pre,
      )
    )

  def handle_startendtag(self, tag, attrs):
    self.handle_starttag(tag, attrs)
    if tag not in VOID and tag in ("svg", "path", "g", "math"):
      self.handle_endtag(tag)  # Of SVG and MathML; HTML ignores the slash.

  def handle_endtag(self, tag):
    if any(element.tag == tag for element in self._open):
      while self._open[-1].tag != tag:
        self._end()
      self._end()
    elif tag == "p":
      self._add(_LINE)

  def handle_data(self, data):
    data = data.replace(_CELL, " ").replace(_SPACE, " ")
    if self._open[-1].is_pre:
      self._add(re.sub("[ \t]", _SPACE, data))
    else:
      self._add(re.sub(r"\s+", " ", data))

  def _add(self, part: str) -> None:
    self._open[-1].parts.append(part)

  def _is_left_out(self, tag: str, attributes: dict[str, str | None]) -> bool:
    if tag in ("header", "footer"):
      return not any(element.tag in ("article", "main") for element in self._open)
    return tag in LEFT_OUT or attributes.get("role") in LEFT_OUT_ROLES

  def _close_previous(self, tag: str) -> None:
    """Ends an open <tag> that the new one cannot be inside of."""
    closed, bounds = CLOSES.get(tag, ((), ()))
    for element in reversed(self._open if closed else ()):
      if element.tag in closed:
        self.handle_endtag(element.tag)
      if element.tag in closed or element.tag in bounds:
        return

  def _end(self) -> None:
    """Closes the innermost element and hands its parts to its parent."""
    element, parent = self._open.pop(), self._open[-1]
    if element.left_out:
      return
    parts = element.parts
    if element.alternatives and not "".join(parts).strip():
      parts = element.alternatives[-1]
    if element.tag in CELLS:
      parts = _cell(parts)
    elif element.tag in BLOCKS:
      parts = [_LINE, *parts, _LINE]
    if element.tag == "main":
      self._main += parts
    if element.hidden:
      parent.alternatives.append(parts)
    else:
      parent.parts += parts


def _cell(parts: list[str]) -> list[str]:
  """Returns a table cell's parts: within its row, unless it has several lines."""
  text = _lines("".join(parts), keep_marks=True)
  return [_LINE, text, _LINE] if "\n" in text else [_CELL, text, _CELL]


def _lines(text: str, *, keep_marks: bool = False) -> str:
  """Returns the lines of joined parts, tidied, without blank ones."""
  lines = []
  for line in text.split(_LINE):
    cells = [re.sub("  +", " ", cell.strip(" ")) for cell in line.split(_CELL)]
    line = (_CELL if keep_marks else " | ").join(cell for cell in cells if cell)
    if not keep_marks:
      line = line.replace(_SPACE, " ").rstrip()
    if line.strip(" " + _SPACE):
      lines.append(line)
  return "\n".join(lines)
