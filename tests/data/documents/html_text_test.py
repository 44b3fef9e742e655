"""Content comes out line by line; scripts, navigation and hidden parts stay out."""

import time

import pytest

from undo_jax.data.documents import html_text

PAGE = """<!DOCTYPE html>
<html lang="ko"><head><title>The title</title><style>p {color: red}</style>
<script>if (1 < 2) document.write("<p>written</p>");</script></head>
<body><header><a href="/">Home</a></header><nav><ul><li>Menu<li>More</ul></nav>
<aside>Index</aside><button>Press</button><form>Search <input value="x"></form>
<div id="content">
 <h1>Heading   one</h1>
 <p class="a">First&nbsp;&amp; <b>bold</b>
   text.</p><p>Second<br>line
 <ul><li>one<li><p>two</p></li></ul>
 <table><tr><th>a</th><th>b</th></tr><tr><td>1<td></td><td><p>2</p></td></tr></table>
 <pre>
def f(x):
    return  x
</pre>
 <p>한국어 &#44032;</p>
</div>
<div hidden>secret</div><noscript>Enable it</noscript>
<footer>Copyright</footer><!-- comment --></body></html>"""
TEXT = """Heading one
First & bold text.
Second
line
one
two
a | b
1 | 2
def f(x):
    return  x
한국어 가"""


def test_a_page_becomes_its_content():
  assert html_text.extract(PAGE) == TEXT


def test_line_ends_of_windows_change_nothing():
  assert html_text.extract(PAGE.replace("\n", "\r\n")) == TEXT


@pytest.mark.parametrize(
  "page, text",
  [
    ("", ""),
    ("no tags", "no tags"),
    ("<script>never closed <p>x", ""),
    ("<nav>x<p>y</nav>z", "z"),
    ("<p>a<p>b<b>c", "a\nbc"),
    ("<p hidden>no<p>yes", "yes"),
    ("a</p>b</div></span>c", "a\nbc"),
    ("<ul><li>a<ul><li>b</ul><li>c</ul>", "a\nb\nc"),
    ("<dl><dt>word<dd>meaning<dt>other</dl>", "word\nmeaning\nother"),
    ("<table><tr><td>1<td>2<tr><td>3</table>", "1 | 2\n3"),
    ("<table><tr><td>1<table><tr><td>in</table>2</table>", "1\nin\n2"),
    ("<td><p>one</p><p>two</p><td>b", "one\ntwo\nb"),
    ("<main>m</main><p>other", "m"),
    ("<article><header><h1>T</h1></header>x</article><header>no</header>", "T\nx"),
    ('<div role="navigation">no</div><div role="main">yes</div>', "yes"),
    ('<svg><path d="x"/><text>no</text></svg>yes', "yes"),
    ("a<svg/>b", "ab"),
    ("a &lt;b&gt; c", "a <b> c"),
    # Of XML and of old browsers; as the standard of HTML has it, all are comments.
    (
      "<p>Keep this.</p><![ endif]--><p>And this <![FOR]>.</p>",
      "Keep this.\nAnd this .",
    ),
    ("a<![CDATA[b]]>c", "ac"),
    ("a<![CDATA[ x > y ]]>b", "a y ]]>b"),
    ("a<![if IE]>b<![endif]>c", "abc"),
    ("a<!-->b<!x>c<?php d ?>e", "abce"),
    ("a<![CDATA[", "a"),
    ("<svg><![CDATA[<p>no]]></svg>b", "b"),
  ],
)
def test_pages_as_they_are_written(page, text):
  assert html_text.extract(page) == text


def test_of_alternatives_that_a_script_shows_the_last_stands_for_all():
  choice = '<span hidden class="MAC">Preferences</span><span hidden>Options</span>'
  page = f"<p>Choose <span>{choice}</span> - General.</p>"
  assert html_text.extract(page) == "Choose Options - General."
  assert html_text.extract("<p>Choose <b>now</b><i hidden>x</i>") == "Choose now"


def test_tables_in_tables_are_read_however_deep_they_lie():
  count = 20_000
  assert html_text.extract("<table><tr><td>x" * count) == "\n".join("x" * count)


# What is opened again and again and never closed.
UNITS = {
  "tables": "<table><tr><td>",
  "cells": "<td>x",
  "divisions": "<div>x",
  "lists": "<ul><li>x",
  "formats": "<p><b>x",
  "links": '<a href="x">x',
  "buttons": "<button>x",
  "main": "<main>x",
  "preformatted": "<pre>\nx",
  "drawings": "<svg><g>",
  "templates": "<template>",
  "hidden": "<p hidden>x",
  "comments": "<!-- x",
  "marked sections": "<![CDATA[ x",
  "conditions": "<![if IE]>x",
  "scripts": "<script>x",
  "titles": "<title>x",
  "ends": "</p></b>",
  "brackets": "<",
  "entities": "&x",
}


@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)
def test_time_is_linear_in_what_is_never_closed(unit):
  seconds = []
  for count in (1000, 20_000):
    begin = time.process_time()
    html_text.extract(unit * count)
    seconds.append(time.process_time() - begin)
  # The square would take 400 times as long.
  assert seconds[1] < 100 * max(seconds[0], 0.003)


def test_formats_that_are_never_closed_do_not_multiply():
  """As the standard has it each paragraph of the second page has 900 elements more."""
  seconds, paragraphs = [], "<p>x</p>" * 2000
  opened = "".join(f"<b id={number}>" for number in range(900))
  for page in (paragraphs, f"<p>{opened}</p>{paragraphs}"):
    begin = time.process_time()
    assert html_text.extract(page) == "\n".join("x" * 2000)
    seconds.append(time.process_time() - begin)
  assert seconds[1] < 60 * max(seconds[0], 0.003)
