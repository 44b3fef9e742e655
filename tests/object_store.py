"""A stand-in for Google Cloud Storage: its JSON interface over loopback, in memory.

As much of it as gcsfs, google-cloud-storage and TensorStore ask for where the path is
gs://BUCKET/..., so that what runs on a pod runs here, up to the server. As in the
original an object is there when its upload is complete, listings hold what is there,
and there is no directory and no renaming.
"""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import itertools
import json
import re
import threading
from urllib.parse import parse_qs, unquote, urlsplit


class ObjectStore:
  """The server; `objects` are (bytes, generation) by (bucket, name)."""

  def __init__(self):
    self.objects: dict[tuple[str, str], tuple[bytes, int]] = {}
    self.lock = threading.Lock()
    self.generations = itertools.count(1)
    self.uploads: dict[str, tuple[str, str, bytearray]] = {}
    handler = type("Handler", (_Handler,), {"store": self})
    self._server = _Server(("localhost", 0), handler)
    threading.Thread(target=self._server.serve_forever, daemon=True).start()

  def environment(self) -> dict[str, str]:
    """Return the variables by which the clients find the server."""
    url = f"http://localhost:{self._server.server_address[1]}"
    return {
      "STORAGE_EMULATOR_HOST": url,
      "TENSORSTORE_GCS_HTTP_URL": url,
      "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
      "GOOGLE_CLOUD_PROJECT": "none",
      "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
    }

  def names(self, bucket: str) -> list[str]:
    """Return the names of a bucket's objects."""
    return sorted(name for owner, name in self.objects if owner == bucket)

  def close(self) -> None:
    """End the server."""
    self._server.shutdown()
    self._server.server_close()

  def put(self, bucket, name, data, conditions):
    """Store an object; return its metadata, None if a condition does not hold."""
    with self.lock:
      there = self.objects.get((bucket, name), (b"", 0))[1]
      if int(conditions.get("ifGenerationMatch", there)) != there:
        return None
      self.objects[bucket, name] = bytes(data), next(self.generations)
      return self.metadata(bucket, name)

  def metadata(self, bucket, name):
    data, generation = self.objects[bucket, name]
    now = "2026-01-01T00:00:00.000Z"
    return {
      "kind": "storage#object",
      "bucket": bucket,
      "name": name,
      "size": str(len(data)),
      "generation": str(generation),
      "metageneration": "1",
      "timeCreated": now,
      "updated": now,
    }

  def delete(self, bucket, name):
    with self.lock:
      return self.objects.pop((bucket, name), None) is not None

  def listing(self, bucket, query):
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
    start, end = query.get("startOffset", ""), query.get("endOffset")
    items, prefixes = [], {}
    for name in self.names(bucket):
      if not name.startswith(prefix) or name < start or (end and name >= end):
        continue
      rest = name[len(prefix) :]
      if delimiter and delimiter in rest:
        prefixes[prefix + rest.split(delimiter)[0] + delimiter] = True
      else:
        items.append(self.metadata(bucket, name))
    return {"kind": "storage#objects", "items": items, "prefixes": list(prefixes)}


class _Server(ThreadingHTTPServer):
  def handle_error(self, request, client_address):
    """Say nothing: clients leave when they want no more."""


class _Handler(BaseHTTPRequestHandler):
  protocol_version = "HTTP/1.1"
  store: ObjectStore

  def log_message(self, format, *args):
    del format, args

  def _answer(self, value=None, status=200, headers=(), content="application/json"):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    data = b"" if status == 204 else data
    self.send_response(status)
    for header in (("Content-Type", content), ("Content-Length", str(len(data)))):
      self.send_header(*header)
    for header in headers:
      self.send_header(*header)
    self.end_headers()
    if self.command != "HEAD":
      self.wfile.write(data)

  def _fail(self, status):
    self._answer({"error": {"code": status, "message": str(status)}}, status)

  def _request(self):
    url = urlsplit(self.path)
    query = {name: values[-1] for name, values in parse_qs(url.query).items()}
    if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
      body = b""
      while size := int(self.rfile.readline().split(b";")[0], 16):
        body += self.rfile.read(size)
        self.rfile.readline()
      self.rfile.readline()
    else:
      body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
    match = re.fullmatch(
      r"(/upload|/download)?/storage/v1/b/([^/]+)(?:/o(?:/([^/]+)(/.*)?)?)?(/o)?/?",
      url.path,
    )
    bucket, name, rest = match.group(2, 3, 4) if match else (None, None, None)
    return url.path, query, body, bucket, name and unquote(name), rest

  def do_GET(self):
    path, query, _, bucket, name, _ = self._request()
    if bucket is None:
      self._fail(404)
    elif name is None and not path.rstrip("/").endswith("/o"):
      self._answer({"kind": "storage#bucket", "name": bucket, "id": bucket})
    elif name is None:
      self._answer(self.store.listing(bucket, query))
    elif (bucket, name) not in self.store.objects:
      self._fail(404)
    elif query.get("alt") == "media" or path.startswith("/download"):
      self._content(bucket, name)
    else:
      self._answer(self.store.metadata(bucket, name))

  def _content(self, bucket, name):
    data, generation = self.store.objects[bucket, name]
    headers = [("X-Goog-Generation", str(generation)), ("ETag", f'"{generation}"')]
    wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")
    if not wanted or not data:
      return self._answer(data, 200, headers, "application/octet-stream")
    first, last = wanted.groups()
    start = int(first) if first else max(len(data) - int(last), 0)
    stop = min(int(last) + 1, len(data)) if first and last else len(data)
    if start >= len(data):
      return self._fail(416)
    headers.append(("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}"))
    return self._answer(data[start:stop], 206, headers, "application/octet-stream")

  def do_POST(self):
    path, query, body, bucket, name, rest = self._request()
    if path.startswith("/batch"):
      self._batch(body)
    elif path.startswith("/upload"):
      self._upload(query, body, bucket)
    elif rest and (to := re.fullmatch(r"/(?:rewriteTo|copyTo)/b/([^/]+)/o/(.+)", rest)):
      if (bucket, name) not in self.store.objects:
        return self._fail(404)
      data, _ = self.store.objects[bucket, name]
      resource = self.store.put(to[1], unquote(to[2]), data, {})
      self._answer({"done": True, "resource": resource})
    else:
      self._fail(404)

  def do_PUT(self):
    _, query, body, bucket, _, _ = self._request()
    self._upload(query, body, bucket)

  def do_DELETE(self):
    _, _, _, bucket, name, _ = self._request()
    if self.store.delete(bucket, name):
      self._answer(status=204)
    else:
      self._fail(404)

  def _upload(self, query, body, bucket):
    if "upload_id" in query:
      return self._chunk(query["upload_id"], body)
    name = query.get("name")
    if query["uploadType"] == "resumable":
      name = name or json.loads(body)["name"]
      upload = str(next(self.store.generations))
      self.store.uploads[upload] = bucket, name, bytearray()
      host = self.headers["Host"]
      place = f"http://{host}/upload/storage/v1/b/{bucket}/o?upload_id={upload}"
      return self._answer({}, 200, [("Location", place)])
    if query["uploadType"] == "multipart":
      boundary = re.search('boundary="?([^";]+)', self.headers["Content-Type"])[1]
      parts = re.split(rb"\r?\n?--" + re.escape(boundary.encode()), body)
      described, body = (re.split(rb"\r?\n\r?\n", p, maxsplit=1)[1] for p in parts[1:3])
      name = json.loads(described)["name"]
    return self._stored(self.store.put(bucket, name, body, query))

  def _chunk(self, upload, body):
    bucket, name, data = self.store.uploads[upload]
    data += body
    total = (self.headers.get("Content-Range") or "/*").rpartition("/")[2]
    if total == "*" or len(data) < int(total):
      return self._answer({}, 308, [("Range", f"bytes=0-{len(data) - 1}")])
    del self.store.uploads[upload]
    return self._stored(self.store.put(bucket, name, data, {}))

  def _stored(self, metadata):
    if metadata is None:
      self._fail(412)
    else:
      self._answer(metadata)

  def _batch(self, body):
    answers = []
    for bucket, name in re.findall(rb"DELETE /storage/v1/b/([^/]+)/o/([^ ?]+)", body):
      deleted = self.store.delete(bucket.decode(), unquote(name.decode()))
      status = "204 No Content" if deleted else "404 Not Found"
      answers.append(
        "--batch\r\nContent-Type: application/http\r\n\r\n"
        f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n\r\n"
      )
    data = ("".join(answers) + "--batch--").encode()
    self._answer(data, content="multipart/mixed; boundary=batch")
