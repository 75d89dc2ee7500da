"""Generated requests against relay, from its OpenAPI documents, with schemathesis.

A response must have a documented status, content type and body, and must not be an error of relay. Arguments: the program of relay,
the program of schemathesis, the number of examples per operation, and a seed.
"""

import os
import re
import subprocess
import sys
import tempfile
import threading

import requests

RELAY, SCHEMATHESIS, EXAMPLES, SEED = sys.argv[1:]

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
]

# The tests read the feeds: their responses have no end.
WITHOUT_END = ["follow_events", "tenant_follow_events"]

# These would take the rights of the run, or its tenant.
DESTRUCTIVE = ["revoke_key", "delete_tenant", "v1.application.delete"]

DOCUMENTS = ["openapi.json", "api/v1/openapi.json"]


def start(data):
    """Starts relay. Returns the process, its URL and its key."""
    command = [RELAY, "serve", "--data", data, "--listen", "127.0.0.1:0"]
    pipe = subprocess.PIPE
    relay = subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True)
    url = key = None
    for line in relay.stdout:
        key = key or next(iter(re.findall(r"rk_\w+", line)), None)
        ready = re.search(r"relay is ready.* address=(\S+)", line)
        if ready:
            url = f"http://{ready[1]}"
        if url and key:
            break
    else:
        sys.exit("relay ended before it was ready")
    # A panic is found in the log, even if its response is not seen.
    log = []
    threading.Thread(target=lambda: log.extend(relay.stdout), daemon=True).start()
    return relay, url, key, log


def prepare(url, admin):
    """Makes a tenant with an endpoint and an event. Returns a key of the tenant."""

    def post(path, body, method="POST"):
        headers = {"authorization": f"Bearer {admin}"}
        answer = requests.request(method, url + path, json=body, headers=headers, timeout=30)
        answer.raise_for_status()
        return answer.json()

    post("/v1/tenants/acme", {}, "PUT")
    post("/v1/tenants/acme/endpoints", {"url": "https://receiver.example/", "event_types": ["none"]})
    post("/v1/tenants/acme/events", {"type": "a.b", "data": {"n": 1}})
    return post("/v1/keys", {"scopes": ["admin"], "tenant": "acme"})["key"]


def fuzz(url, document, key, phases, folder):
    """Runs schemathesis over a document. Returns its exit code."""
    here = os.path.dirname(os.path.abspath(__file__))
    command = [SCHEMATHESIS, "--config-file", os.path.join(here, "fuzz.toml")]
    command += ["run", f"{url}/{document}", "--url", url]
    command += ["--header", f"Authorization: Bearer {key}"]
    command += ["--checks", ",".join(CHECKS), "--phases", phases]
    command += ["--max-examples", EXAMPLES, "--seed", SEED, "--continue-on-failure"]
    command += ["--suppress-health-check", "all", "--warnings", "off"]
    for operation in WITHOUT_END + DESTRUCTIVE:
        command += ["--exclude-operation-id", operation]
    print(f"\n== {document}: {phases}", flush=True)
    hooks = os.path.join(here, "fuzz_hooks.py")
    environment = {**os.environ, "NO_COLOR": "1", "SCHEMATHESIS_HOOKS": hooks}
    # schemathesis keeps a cache in its working directory.
    return subprocess.run(command, env=environment, cwd=folder).returncode


def main():
    with tempfile.TemporaryDirectory() as data, tempfile.TemporaryDirectory() as folder:
        relay, url, admin, log = start(data)
        try:
            of_tenant = prepare(url, admin)
            runs = [(document, key) for document in DOCUMENTS for key in [admin, of_tenant]]
            phases = "examples,coverage,fuzzing,stateful"
            codes = [fuzz(url, document, key, phases, folder) for document, key in runs]
        finally:
            relay.terminate()
            code = relay.wait(60)
    panics = [line for line in log if "panicked" in line or " ERROR " in line]
    print("".join(panics[:20]))
    if any(codes) or code or panics:
        sys.exit(f"schemathesis: {codes}, relay: {code}, {len(panics)} errors in its log")
    print("done")


main()
