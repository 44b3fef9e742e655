"""Made-up files of MUSE's format."""

import json

NAMES = ("Ann", "Bo", "Cy", "Di", "Ed")


def write(directory):
  """Write the files; questions about the retain texts come without examples."""
  rows = {
    "verbmem/forget": [
      {"prompt": f"{name} has", "gt": f"{n} hats. " * (n + 1)}
      for n, name in enumerate(NAMES)
    ],
    "knowmem/forget_qa": [
      {"question": f"Hats of {name}?", "answer": f"{n} of them"}
      for n, name in enumerate(NAMES)
    ],
    "knowmem/forget_qa_icl": [{"question": "Hats of Zoe?", "answer": "26"}],
    "knowmem/retain_qa": [{"question": "Why?", "answer": "So"}],
    "privleak/forget": [f"{name} wears a hat." for name in NAMES],
    "privleak/holdout": [f"{name} wore no hat." for name in NAMES[:3]],
  }
  for name, own in rows.items():
    path = directory / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(own))
