#!/usr/bin/env python3
"""A custom handler for the host's tests: it writes down what it receives, and misbehaves as control.json in its folder tells it to.

control.json: {"starts": [..], "answers": {"/Path": [..]}}; the n-th start or call takes the n-th entry, later ones the last.
"""
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROOT = os.environ["FUNCTIONS_APP_ROOT_PATH"]
LOCK = threading.Lock()


def record(file, entry):
    """Appends an entry; returns how many of the same path were there before."""
    with LOCK:
        path = os.path.join(ROOT, file)
        before = 0
        if os.path.exists(path):
            with open(path) as lines:
                before = sum(1 for line in lines if json.loads(line).get("path") == entry.get("path"))
        with open(path, "a") as out:
            out.write(json.dumps(entry) + "\n")
        return before


def control():
    try:
        with open(os.path.join(ROOT, "control.json")) as text:
            return json.load(text)
    except FileNotFoundError:
        return {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            chunks = []
            while True:
                size = int(self.rfile.readline(), 16)
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
                if size == 0:
                    return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def serve(self):
        body = self.body()
        path = self.path.split("?")[0]
        if path == "/":
            return self.answer(200, "text/plain", b"up")
        entry = {
            "method": self.command,
            "path": path,
            "target": self.path,
            "headers": [[name.lower(), value] for name, value in self.headers.items()],
            "length": len(body),
            "body": body[:100000].decode("utf-8", "replace"),
            "pid": os.getpid(),
            "at": time.time(),
        }
        count = record("calls.jsonl", entry)
        steps = control().get("answers", {}).get(path, ["ok"])
        step = steps[min(count, len(steps) - 1)]
        if isinstance(step, dict) and "sleep" in step:
            time.sleep(step["sleep"])
            step = step.get("then", "ok")
        if step == "ok":
            return self.answer(200, "application/json", b'{"Outputs":{},"Logs":["done"],"ReturnValue":null}')
        if step == "empty":
            return self.answer(200, "application/json", b"")
        if step == "text":
            return self.answer(200, "text/plain", b"secret")
        if "exit" in step:
            os._exit(step["exit"])
        if "status" in step:
            return self.answer(step["status"], "application/json", b"{}", step.get("headers", {}))
        return self.answer(200, "application/json", json.dumps(step).encode())

    do_GET = do_POST = do_PUT = do_DELETE = serve

    def answer(self, status, kind, body, headers={}):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


def end_with_the_host():
    sys.stdin.buffer.read()
    os._exit(1)


def main():
    if os.environ.get("HDAI_HOST_LIFELINE") == "stdin":
        threading.Thread(target=end_with_the_host, daemon=True).start()
    names = ("FUNCTIONS_", "TEST_")
    env = {name: value for name, value in os.environ.items() if name.startswith(names)}
    start = {"pid": os.getpid(), "env": env, "cwd": os.getcwd(), "arguments": sys.argv[1:], "at": time.time()}
    count = record("starts.jsonl", start)
    steps = control().get("starts", [{}])
    step = steps[min(count, len(steps) - 1)]
    time.sleep(step.get("sleep", 0))
    if "exit" in step:
        os._exit(step["exit"])
    print("started", flush=True)
    Server(("127.0.0.1", int(os.environ["FUNCTIONS_CUSTOMHANDLER_PORT"])), Handler).serve_forever()


main()
