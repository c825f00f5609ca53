"""A small S3: objects in memory, path-style addresses; what AWS's own C++ client (in pyarrow) needs of it."""

import hashlib
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class Bucket:
    """What the server holds, and how it misbehaves."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.requests: list[str] = []
        self.refuse = 0
        """A status that every request gets; 0 for none."""


@contextmanager
def serving(bucket: Bucket) -> Generator[str]:
    """Serves the bucket while the block runs; yields HOST:PORT."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base's name)
            bucket.requests.append(format % args)

        def do_HEAD(self) -> None:
            self._object(with_body=False)

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if "list-type" in parse_qs(parts.query) or parts.path.count("/") < 2:
                self._answer(200, b"<ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>")
            else:
                self._object(with_body=True)

        def do_PUT(self) -> None:
            key, query = self._address()
            body = self._body()
            if bucket.refuse:
                self._refused()
                return
            if "uploadId" in query:
                bucket.uploads[query["uploadId"][0]][int(query["partNumber"][0])] = body
            else:
                bucket.objects[key] = body
            self._answer(200, b"", {"ETag": f'"{hashlib.md5(body).hexdigest()}"'})  # noqa: S324 (S3's ETag)

        def do_POST(self) -> None:
            key, query = self._address()
            self._body()
            if bucket.refuse:
                self._refused()
            elif "uploads" in query:
                name = f"upload-{len(bucket.uploads)}"
                bucket.uploads[name] = {}
                text = f"<Bucket>b</Bucket><Key>{escape(key)}</Key><UploadId>{name}</UploadId>"
                self._answer(
                    200, f"<InitiateMultipartUploadResult>{text}</InitiateMultipartUploadResult>".encode()
                )
            else:
                pieces = bucket.uploads.pop(query["uploadId"][0])
                bucket.objects[key] = b"".join(pieces[number] for number in sorted(pieces))
                text = '<Location>x</Location><Bucket>b</Bucket><Key>k</Key><ETag>"x"</ETag>'
                self._answer(
                    200, f"<CompleteMultipartUploadResult>{text}</CompleteMultipartUploadResult>".encode()
                )

        def _address(self) -> tuple[str, dict[str, list[str]]]:
            parts = urlsplit(self.path)
            return unquote(parts.path), parse_qs(parts.query, keep_blank_values=True)

        def _object(self, *, with_body: bool) -> None:
            key, _ = self._address()
            if bucket.refuse:
                self._refused()
                return
            body = bucket.objects.get(key)
            if body is None:
                self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
                return
            status, headers = 200, {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT", "ETag": '"x"'}
            asked = self.headers.get("Range", "")
            if asked:
                first, _, last = asked.removeprefix("bytes=").partition("-")
                end = min(int(last or len(body) - 1), len(body) - 1)
                headers["Content-Range"] = f"bytes {first}-{end}/{len(body)}"
                status, body = 206, body[int(first) : end + 1]
            self._answer(status, body, headers, with_body=with_body)

        def _body(self) -> bytes:
            chunked = self.headers.get("Transfer-Encoding", "") == "chunked"
            body = self._chunks() if chunked else self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if "aws-chunked" in self.headers.get("Content-Encoding", ""):
                plain = b""
                while body:
                    size, _, body = body.partition(b"\r\n")
                    length = int(size.split(b";")[0], 16)
                    if not length:
                        break
                    plain, body = plain + body[:length], body[length + 2 :]
                return plain
            return body

        def _chunks(self) -> bytes:
            body = b""
            while length := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(length)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return body

        def _refused(self) -> None:
            self._answer(bucket.refuse, b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>")

        def _answer(
            self, status: int, body: bytes, headers: dict[str, str] | None = None, *, with_body: bool = True
        ) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
