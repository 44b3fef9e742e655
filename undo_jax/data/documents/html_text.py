"""The text of an HTML page: its content, without scripts, navigation and forms.

Pages are parsed as browsers do, by lexbor (selectolax). What is left out is decided by
the meaning that HTML gives to elements, not by guesses about a page's appearance:
elements of
`LEFT_OUT`, roles of `LEFT_OUT_ROLES`, the header and footer of the page (those of an
article are its content), and what is hidden. Where a page says which part is its main
one (<main>), only that counts.
"""

import collections
import dataclasses
import importlib.metadata
import re

from selectolax.lexbor import LexborHTMLParser, LexborNode

# What a page's text depends on besides the page.
PARSER = f"selectolax {importlib.metadata.version('selectolax')}"
LEFT_OUT = frozenset(
  "head title script style noscript template nav aside form button select datalist "
  "textarea label dialog svg math canvas iframe object audio video noframes "
  "noembed".split()
)
LEFT_OUT_ROLES = frozenset(
  "navigation banner contentinfo complementary search menu menubar toolbar".split()
)
BLOCKS = frozenset(
  "address article blockquote body br caption center dd details div dl dt fieldset "
  "figcaption figure footer h1 h2 h3 h4 h5 h6 header hgroup hr html li listing main "
  "menu ol p plaintext pre search section summary table tbody tfoot thead tr ul "
  "xmp".split()
)
CELLS = frozenset(("td", "th"))
PREFORMATTED = frozenset(("pre", "listing", "plaintext", "xmp"))
# Parsing takes the square of either, as the standard has it. Browsers stop at a depth
# too: what would be deeper lies beside instead.
LARGEST_DEPTH = 1000
MOST_ATTRIBUTES = 1000
# Of elements that the standard opens again in each paragraph until they are closed.
MOST_FORMATS = 10
# Elements that are never closed, need not be, or end what a parser looks through.
_SHALLOW = frozenset(
  "a area base body br col colgroup dd dt embed head hr html img input li link meta "
  "option p param source table tbody td tfoot th thead tr track wbr".split()
)
_FORMATS = frozenset("a b big code em font i nobr s small strike strong tt u".split())
_XHTML = "http://www.w3.org/1999/xhtml"  # Where <a/> is <a></a>; in HTML it is <a>.
_TAG = re.compile(r"<!--|<(/?)([a-zA-Z][^\s/<>]*)([^<>]*)")
_END = {
  "<!--": re.compile("-->"),
  **{
    name: re.compile(f"</{name}", re.IGNORECASE)
    for name in "script style textarea title xmp iframe noembed noframes".split()
  },
}
_OPENED = CELLS | PREFORMATTED | {"article", "main"}  # Their content is special.
_SPACES, _BLANKS, _RUNS = map(re.compile, (r"\s+", r"[ \t\r\v\f]", "  +"))
_LINE, _CELL, _SPACE = "\n", "\v", "\f"  # Marks in parts; text holds none of them.


def extract(page: str) -> str:
  """Return a page's text, a line for each paragraph, heading, item and table row.

  White space counts inside <pre> only; the cells of a row are joined by " | ". If all
  children of an element are hidden, a script is assumed to show one of them; the last
  is taken, which is the general version in pages that differ by reader.

  Args:
    page: the HTML, well-formed or not.

  Returns:
    Lines without blank ones; "" for a page without content.
  """
  return _Reader(LexborHTMLParser(_plain(page))).text()


def _plain(page: str) -> str:
  """Return a page without what only attacks and XML have."""
  parts: list[str] = []
  depths: collections.Counter[str] = collections.Counter()
  depth = formats = copied = begin = 0
  is_xml = _XHTML in page[:1000]
  while tag := _TAG.search(page, begin):
    begin = tag.end()
    name, is_open, rest = (tag[2] or "").lower(), not tag[1], tag[3] or ""
    if len(rest) > MOST_ATTRIBUTES and _num_attributes(rest) > MOST_ATTRIBUTES:
      parts.append(page[copied : tag.start(3)])
      copied = tag.end(3)
    elif is_xml and is_open and rest.endswith("/") and name != "br":
      parts += page[copied : tag.end(3) - 1], f"></{name}"
      copied = tag.end(3)
    elif is_open and (name or tag[0]) in _END:  # Tags in it are text.
      end = _END[name or tag[0]].search(page, begin)
      begin = end.start() if end else len(page)
    elif (
      is_open
      and name not in _SHALLOW
      and (depth == LARGEST_DEPTH or (name in _FORMATS and formats == MOST_FORMATS))
    ):
      parts += page[copied : tag.start()], "<br" if name in BLOCKS else "<wbr"
      copied = tag.end(2)
    elif name not in _SHALLOW and (is_open or depths[name]):
      change = 1 if is_open else -1
      depth, depths[name] = depth + change, depths[name] + change
      formats += change if name in _FORMATS else 0
  return "".join([*parts, page[copied:]]) if parts else page


def _num_attributes(text: str) -> int:
  return len(re.sub("\"[^\"]*\"|'[^']*'", "", text).split())


@dataclasses.dataclass(slots=True)
class _Element:
  """An open element, and how much there was before it.

  Attributes:
    tag: its name.
    is_pre: whether white space counts in it.
    is_main: whether it is, or is in, the page's main part.
    is_content: whether headers and footers in it are content.
    hidden: its last child that is hidden.
    num_parts: like the others, of the reader when it began.
  """

  tag: str = ""
  is_pre: bool = False
  is_main: bool = False
  is_content: bool = False
  hidden: LexborNode | None = None
  num_parts: int = 0
  num_breaks: int = 0
  num_words: int = 0
  num_lines: int = 0
  in_line: bool = False


class _Reader:
  """Gathers text in the page's order, each part once: time is linear."""

  def __init__(self, parser: LexborHTMLParser):
    self._root = parser.root
    self.parts: list[str] = []
    self.breaks: list[int] = []  # Which parts are line ends, within cells of one line.
    self.num_words = 0  # Parts with text.
    self.num_lines = 0  # Lines with text.
    self.in_line = False  # Whether the current line has text.
    self._has_main = False
    self._main: list[str] = []  # Its parts.
    hidden = parser.css('[hidden], [aria-hidden="true"]')
    self._hidden = {node.mem_id for node in hidden}
    self._parents = {node.parent.mem_id for node in hidden if node.parent}
    self._left_out = {
      node.mem_id
      for node in parser.css("[role]")
      if (node.attributes.get("role") or "").lower() in LEFT_OUT_ROLES
    }

  def text(self) -> str:
    """Return the text of the page."""
    # None: the end of the innermost open element; a text: it ends another block.
    waiting: list[LexborNode | str | None] = [self._root]
    outer = _Element()
    opened = [outer]
    while waiting:
      node = waiting.pop()
      if node is None:
        hidden = outer.hidden
        if hidden is None or self.num_words > outer.num_words:
          opened.pop()
          self._end(outer, opened[-1])
          outer = opened[-1]
          continue
        waiting.append(None)  # It has nothing but hidden children.
        node, outer.hidden = hidden, None
      elif isinstance(node, str):
        self._line()
        continue
      elif node.is_text_node:
        self._text(node.text_content or "", is_pre=outer.is_pre)
        continue
      elif self._is_left_out(node, outer):
        continue
      elif node.mem_id in self._hidden:
        outer.hidden = node
        continue
      tag = node.tag or ""
      if tag in _OPENED or node.mem_id in self._parents:
        outer = self._begin(tag, outer)
        opened.append(outer)
        waiting.append(None)
      elif tag in BLOCKS:
        self._line()
        waiting.append(_LINE)
      waiting += reversed(list(node.iter(include_text=True)))
    return _lines("".join(self._main if self._has_main else self.parts))

  def _is_left_out(self, node: LexborNode, outer: _Element) -> bool:
    if node.tag in ("header", "footer"):
      return not outer.is_content
    return node.tag in LEFT_OUT or node.mem_id in self._left_out

  def _begin(self, tag: str, outer: _Element) -> _Element:
    """Open an element."""
    element = _Element(
      tag,
      outer.is_pre or tag in PREFORMATTED,
      outer.is_main or tag == "main",
      outer.is_content or tag in ("article", "main"),
      num_parts=len(self.parts),
      num_breaks=len(self.breaks),
      num_words=self.num_words,
      num_lines=self.num_lines,
      in_line=self.in_line,
    )
    if tag in CELLS:
      self.parts.append(_CELL)
      self.in_line = False
    elif tag in BLOCKS:
      self._line()
    return element

  def _end(self, element: _Element, outer: _Element) -> None:
    """Close an element."""
    if element.tag in CELLS:
      self._end_cell(element)
    elif element.tag in BLOCKS:
      self._line()
    if element.is_main and not outer.is_main:
      self._has_main = True
      self._main += self.parts[element.num_parts :]

  def _end_cell(self, element: _Element) -> None:
    """Make a cell a part of its row, unless it has several lines."""
    num_lines = self.num_lines - element.num_lines
    if num_lines > 1:
      self.parts[element.num_parts] = _LINE
      self._line()
      return
    for index in self.breaks[element.num_breaks :]:
      self.parts[index] = ""
    del self.breaks[element.num_breaks :]
    self.parts.append(_CELL)
    if element.in_line:  # Its text is in a line that counts already.
      self.num_lines = element.num_lines
    self.in_line = element.in_line or num_lines == 1

  def _line(self) -> None:
    if not self.parts or self.parts[-1] != _LINE:
      self.breaks.append(len(self.parts))
      self.parts.append(_LINE)
    self.in_line = False

  def _text(self, text: str, *, is_pre: bool) -> None:
    if not is_pre:
      self._add(_SPACES.sub(" ", text))
      return
    first, *others = _BLANKS.sub(_SPACE, text).split("\n")
    self._add(first)
    for line in others:
      self._line()
      self._add(line)

  def _add(self, part: str) -> None:
    """Append text of one line."""
    self.parts.append(part)
    if part.strip(" " + _SPACE):
      self.num_words += 1
      self.num_lines += not self.in_line
      self.in_line = True


def _lines(text: str) -> str:
  """Return the lines of joined parts, tidied, without blank ones."""
  lines = []
  for line in text.split(_LINE):
    cells = [_RUNS.sub(" ", cell.strip(" ")) for cell in line.split(_CELL)]
    line = " | ".join(cell for cell in cells if cell).replace(_SPACE, " ").rstrip()
    if line:
      lines.append(line)
  return "\n".join(lines)
