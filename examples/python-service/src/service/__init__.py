"""An HTTP server that greets."""

import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def answer(path):
    hello, prefix, name = path.partition("/hello/")
    if prefix and not hello:
        return f"Hello, {name}.\n"
    return f"python-service, uid {os.getuid()}\n"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = answer(self.path).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
