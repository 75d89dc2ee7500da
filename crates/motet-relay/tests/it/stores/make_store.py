#!/usr/bin/env python3
"""Makes a small store with rows of every kind: make_store.py PROGRAM FILE

PROGRAM is the motet-relay of the version whose store is wanted. Prints the API key of the store.
"""

import http.server
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

program, target = sys.argv[1:]
data = tempfile.mkdtemp() + "/data"


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200 if self.path == "/ok" else 500)
        self.end_headers()

    def log_message(self, *_):
        pass


receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=receiver.serve_forever, daemon=True).start()
hook = f"http://127.0.0.1:{receiver.server_port}"

relay = subprocess.Popen(
    [program, "serve", "--data", data, "--listen", "127.0.0.1:18999", "--allow-net", "127.0.0.1",
     "--max-attempts", "2", "--retry-base", "0.01"],
    stdout=subprocess.PIPE, text=True,
)
key = next(line.strip() for line in relay.stdout if line.strip().startswith("rk_"))


def call(method, path, body=None):
    request = urllib.request.Request(f"http://127.0.0.1:18999/v1{path}", method=method)
    request.add_header("authorization", f"Bearer {key}")
    data = None
    if body is not None:
        request.add_header("content-type", "application/json")
        data = json.dumps(body).encode()
    with urllib.request.urlopen(request, data) as response:
        text = response.read()
        return json.loads(text) if text else None


def wait(path, count):
    while len(call("GET", path)["items"]) != count:
        time.sleep(0.05)


while True:
    try:
        call("GET", "/tenants")
        break
    except OSError:
        time.sleep(0.05)

call("PUT", "/tenants/acme", {"name": "Acme", "policy": {"endpoints_max": 9}})
call("PUT", "/tenants/globex", {"name": "Globex"})
call("POST", "/keys", {"name": "acme's", "scopes": ["publish", "read"], "tenant": "acme"})
acme = "/tenants/acme"
ok = call("POST", acme + "/endpoints", {"url": hook + "/ok", "event_types": ["user.>"], "uid": "good"})
bad = call("POST", acme + "/endpoints", {"url": hook + "/bad", "event_types": ["user.>"], "uid": "bad"})
off = call("POST", acme + "/endpoints", {"url": hook + "/ok", "event_types": ["user.>"], "uid": "off"})
waits = call("POST", acme + "/endpoints", {"url": hook + "/ok", "event_types": ["user.>"], "uid": "waits"})
call("PATCH", f"{acme}/endpoints/{off['id']}", {"enabled": False})
call("POST", f"{acme}/endpoints/{waits['id']}/pause")
for n in range(5):
    call("POST", acme + "/events", {"type": "user.created", "data": {"n": n, "text": "é ü"}, "uid": f"u-{n}"})
call("POST", "/endpoints", {"url": hook + "/ok", "event_types": ["order.paid"]})
call("POST", "/events", {"type": "order.paid", "data": 7})
wait(acme + "/deliveries?state=delivered", 5)
wait(acme + "/dead-letters", 5)
wait(acme + "/deliveries?state=skipped", 5)
wait(acme + "/deliveries?state=pending", 5)
wait("/deliveries?state=delivered", 1)
replay = call("POST", acme + "/replays", {"mode": "delivered", "endpoint_id": ok["id"]})
while call("GET", f"{acme}/replays/{replay['id']}")["state"] == "running":
    time.sleep(0.05)
wait(acme + "/deliveries?state=pending", 5)
relay.terminate()
assert relay.wait() == 0
shutil.copyfile(data + "/relay.db", target)
print(key)
