"""A stand-in for a package index: the wheels in a folder, as PEP 503 and PEP 658 have them."""

import functools
import hashlib
import re
import sys
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

folder = Path(sys.argv[1])


class Index(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self):
        if self.path.endswith(".metadata"):
            self.send(metadata(folder / Path(self.path).name[: -len(".metadata")]), "text/plain")
            return
        found = re.fullmatch(r"/simple/([^/]+)/?", self.path)
        if found is None:
            super().do_GET()
            return
        wheels = [path for path in folder.glob("*.whl") if normal(path.name.split("-")[0]) == normal(found[1])]
        link = '<a href="/{0}#sha256={1}" data-core-metadata="true">{0}</a>\n'
        links = "".join(link.format(path.name, digest(path)) for path in wheels)
        self.send(f"<!DOCTYPE html><html><body>{links}</body></html>".encode(), "text/html", 200 if wheels else 404)

    def send(self, content, kind, status=200):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA")))


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


@functools.cache
def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


ThreadingHTTPServer.request_queue_size = 128  # uv asks for all at once
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), lambda *rest: Index(*rest, directory=str(folder))).serve_forever()
