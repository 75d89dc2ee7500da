"""A whole life with the published Python client of Svix, unchanged, against relay.

Arguments: the URL of the server and an API key. Works with the versions 1.x and 2.x of the client.
"""

import collections
import queue
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer

from svix import models as m
from svix.api import Svix, SvixOptions
from svix.api.application import ApplicationListOptions
from svix.api.endpoint import EndpointGetStatsOptions, EndpointListOptions
from svix.api.message import MessageCreateOptions, MessageGetOptions, MessageListOptions
from svix.api.message_attempt import (
    MessageAttemptListAttemptedMessagesOptions,
    MessageAttemptListByEndpointOptions,
    MessageAttemptListByMsgOptions,
)
from svix.exceptions import HTTPValidationError, HttpError
from svix.webhooks import Webhook, WebhookVerificationError

URL, KEY = sys.argv[1:]
IS_SECOND = not hasattr(Svix(KEY, SvixOptions(server_url=URL)).application, "update")

received = queue.Queue()


class Receiver(BaseHTTPRequestHandler):
    """Answers the first requests of a message with 500: one of a message with `fail`, and two with `dead`."""

    seen = collections.Counter()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        failures = 2 if b"dead" in body else 1 if b"fail" in body else 0
        message = self.headers["svix-id"]
        self.seen[message] += 1
        self.send_response(500 if self.seen[message] <= failures else 200)
        self.end_headers()
        received.put(({name.lower(): value for name, value in self.headers.items()}, body))

    def log_message(self, *_):
        pass


receiver = HTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=receiver.serve_forever, daemon=True).start()
RECEIVER = f"http://127.0.0.1:{receiver.server_port}/hook"


def arrived():
    return received.get(timeout=60)


def eventually(what, get):
    """Polls: the client has no way to wait for an attempt to be recorded."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = get()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited 60 s for {what}")


def refused(status, call):
    """Returns the error, which the client must have parsed."""
    try:
        call()
    except HTTPValidationError as error:
        assert status == 422 and error.detail[0].loc, vars(error)
        return error
    except HttpError as error:
        assert error.status_code == status and error.code and error.detail, vars(error)
        return error
    raise AssertionError(f"expected {status}")


# With a slash at the end, as in many configurations.
svix = Svix(KEY, SvixOptions(server_url=URL + "/"))
svix.health.get()
refused(401, lambda: Svix("testsk_unknown.eu", SvixOptions(server_url=URL)).application.list())

# Applications
app = svix.application.create(m.ApplicationIn(name="Acme", uid="acme", metadata={"plan": "pro"}))
assert (app.name, app.uid, app.metadata) == ("Acme", "acme", {"plan": "pro"}), app
refused(409, lambda: svix.application.create(m.ApplicationIn(name="Acme", uid="acme")))
assert svix.application.get_or_create(m.ApplicationIn(name="Other", uid="acme")).id == app.id
assert svix.application.get("acme").id == svix.application.get(app.id).id == app.id
assert svix.application.patch("acme", m.ApplicationPatch(name="Acme 2")).name == "Acme 2"
put = svix.application.upsert if IS_SECOND else svix.application.update
put("acme", m.ApplicationIn(name="Acme 3", uid="acme"))
apps = svix.application.list(ApplicationListOptions(limit=1))
assert len(apps.data) == 1 and not apps.done
rest = svix.application.list(ApplicationListOptions(limit=1, iterator=apps.iterator))
assert [rest.data[0].id, rest.done] == [app.id, True], rest
refused(404, lambda: svix.application.get("nobody"))
refused(422, lambda: svix.application.create(m.ApplicationIn(name="x", uid="not allowed")))

# Event types
svix.event_type.create(m.EventTypeIn(name="invoice-line.paid", description="Paid", schemas={"1": {"type": "object"}}))
svix.event_type.patch("invoice-line.paid", m.EventTypePatch(description="Paid in full"))
assert svix.event_type.get("invoice-line.paid").description == "Paid in full"
assert [kind.name for kind in svix.event_type.list().data] == ["invoice-line.paid"]

# Endpoints
if IS_SECOND:
    new = m.EndpointIn(url=RECEIVER, uid="main", event_types=["invoice-line.paid", "invoice.failed"], throttle_rate=100)
else:
    new = m.EndpointIn(
        url=RECEIVER, uid="main", filter_types=["invoice-line.paid", "invoice.failed"], rate_limit=100, version=1
    )
endpoint = svix.endpoint.create("acme", new)
types = endpoint.event_types if IS_SECOND else endpoint.filter_types
assert types == ["invoice-line.paid", "invoice.failed"], endpoint
assert (endpoint.throttle_rate if IS_SECOND else endpoint.rate_limit) == 100
patch = svix.endpoint.patch("acme", "main", m.EndpointPatch(description="the books"))
assert patch.description == "the books" and patch.id == endpoint.id
assert [found.id for found in svix.endpoint.list("acme", EndpointListOptions(limit=250)).data] == [endpoint.id]
put = svix.endpoint.set_headers if IS_SECOND else svix.endpoint.update_headers
put("acme", "main", m.EndpointHeadersIn(headers={"X-Tenant": "acme", "Authorization": "Basic abc"}))
svix.endpoint.patch_headers("acme", "main", m.EndpointHeadersPatchIn(headers={"X-More": "1"}))
headers = svix.endpoint.get_headers("acme", "main")
assert headers.headers == {"X-Tenant": "acme", "X-More": "1"}, headers
assert headers.sensitive == ["Authorization"], headers

# A message, verified by the client's own library
secret = svix.endpoint.get_secret("acme", "main").key
payload = {"id": "inv_1", "amount": 12.5, "name": "Zoë"}
message = svix.message.create(
    "acme",
    m.MessageIn(event_type="invoice-line.paid", event_id="inv-1", payload=payload, channels=["books"], tags=["t"]),
)
sent, body = arrived()
assert Webhook(secret).verify(body, sent) in (payload, None)
assert sent["svix-id"] == message.id and sent["x-tenant"] == "acme" and sent["authorization"] == "Basic abc"
try:
    Webhook(secret).verify(body + b" ", sent)
    raise AssertionError("a forged body was accepted")
except WebhookVerificationError:
    pass
refused(409, lambda: svix.message.create("acme", m.MessageIn(event_type="x", event_id="inv-1", payload={})))
in_the_future = datetime.now(timezone.utc) + timedelta(hours=1)
refused(
    422,
    lambda: svix.message.create("acme", m.MessageIn(event_type="x", payload={}, deliver_at=in_the_future)),
)
refused(413, lambda: svix.message.create("acme", m.MessageIn(event_type="x", payload={"x": "y" * 400_000})))
once = [
    svix.message.create(
        "acme", m.MessageIn(event_type="quiet", payload={}), MessageCreateOptions(idempotency_key="once")
    ).id
    for _ in range(2)
]
assert once[0] == once[1]
# The versions 2.x ask for no content unless they are told to.
assert svix.message.get("acme", "inv-1", MessageGetOptions(with_content=True)).payload == payload
messages = svix.message.list("acme", MessageListOptions(event_types=["invoice-line.paid"], channel="books", tag="t"))
assert [found.id for found in messages.data] == [message.id] and messages.done
assert svix.message.list("acme", MessageListOptions(with_content=False)).data[0].payload == {}

# Rotation: both secrets verify what is sent within the grace period.
svix.endpoint.rotate_secret("acme", "main", m.EndpointSecretRotateIn())
rotated = svix.endpoint.get_secret("acme", "main").key
assert rotated != secret
svix.message.create("acme", m.MessageIn(event_type="invoice-line.paid", payload={"n": 2}))
sent, body = arrived()
Webhook(secret).verify(body, sent)
Webhook(rotated).verify(body, sent)

# Attempts: one failure, then a success
failing = svix.message.create("acme", m.MessageIn(event_type="invoice.failed", payload={"fail": True}))
arrived()
arrived()
attempts = eventually(
    "two attempts",
    lambda: (found := svix.message_attempt.list_by_msg("acme", failing.id)) and len(found.data) == 2 and found,
)
assert [int(attempt.status) for attempt in attempts.data] == [0, 2], attempts
assert [attempt.response_status_code for attempt in attempts.data] == [200, 500]
by_status = MessageAttemptListByMsgOptions(status=2, status_code_class=500, endpoint_id="main")
assert len(svix.message_attempt.list_by_msg("acme", failing.id, by_status).data) == 1
one = svix.message_attempt.get("acme", failing.id, attempts.data[0].id)
assert one.id == attempts.data[0].id
by_endpoint = MessageAttemptListByEndpointOptions(event_types=["invoice.failed"], with_msg=True, limit=10)
found = svix.message_attempt.list_by_endpoint("acme", "main", by_endpoint).data
assert [attempt.msg.id for attempt in found] == [failing.id, failing.id]
options = MessageAttemptListAttemptedMessagesOptions(limit=10)
attempted = svix.message_attempt.list_attempted_messages("acme", "main", options).data
assert failing.id in [found.id for found in attempted]
destinations = svix.message_attempt.list_attempted_destinations("acme", failing.id).data
assert [found.id for found in destinations] == [endpoint.id]

svix.message_attempt.resend("acme", failing.id, "main")
sent, _ = arrived()
assert sent["svix-id"] == failing.id
stats = eventually(
    "the statistics",
    lambda: (found := svix.endpoint.get_stats("acme", "main", EndpointGetStatsOptions())).success == 4 and found,
)
assert (stats.fail, stats.pending) == (0, 0), stats

# After a rotation without a grace period only the new secret verifies.
svix.endpoint.rotate_secret("acme", "main", m.EndpointSecretRotateIn(grace_period_seconds=0))
last = svix.endpoint.get_secret("acme", "main").key
svix.message.create("acme", m.MessageIn(event_type="invoice-line.paid", payload={"n": 3}))
sent, body = arrived()
Webhook(last).verify(body, sent)
for old in [secret, rotated]:
    try:
        Webhook(old).verify(body, sent)
        raise AssertionError("an old secret was accepted")
    except WebhookVerificationError:
        pass

# Replays
an_hour_ago = datetime.now(timezone.utc) - timedelta(hours=1)


def finished(task):
    return eventually(
        "the task", lambda: (found := svix.background_task.get(task.id)) and found.status == "finished" and found
    )


dead = svix.message.create("acme", m.MessageIn(event_type="invoice.failed", payload={"dead": True}))
assert [arrived()[0]["svix-id"] for _ in range(2)] == [dead.id] * 2
eventually("a dead letter", lambda: svix.endpoint.get_stats("acme", "main", EndpointGetStatsOptions()).fail == 1)
recovery = svix.endpoint.recover("acme", "main", m.RecoverIn(since=an_hour_ago))
assert (recovery.status, recovery.task) == ("running", "endpoint.recover"), recovery
assert arrived()[0]["svix-id"] == dead.id
assert finished(recovery).data["messagesSent"] == 1
if IS_SECOND:
    late = m.EndpointIn(url=RECEIVER, uid="late", event_types=["invoice-line.paid"])
else:
    late = m.EndpointIn(url=RECEIVER, uid="late", filter_types=["invoice-line.paid"], version=1)
svix.endpoint.create("acme", late)
missing = svix.endpoint.replay_missing("acme", "late", m.ReplayIn(since=an_hour_ago))
first = [arrived()[0]["svix-id"] for _ in range(3)]
assert missing.task == "endpoint.replay" and message.id in first and finished(missing)
of_all = m.BulkReplayIn(since=an_hour_ago, event_types=["invoice-line.paid"], channel="books", status=0)
again = svix.endpoint.bulk_replay("acme", "late", of_all)
assert arrived()[0]["svix-id"] == message.id and finished(again)
tasks = svix.background_task.list().data
assert [task.task for task in tasks] == ["endpoint.bulk-replay", "endpoint.replay", "endpoint.recover"], tasks
refused(404, lambda: svix.background_task.get("qtask_unknown"))

# The portal, and the end
access = svix.authentication.app_portal_access("acme", m.AppPortalAccessIn(session_id="s"))
assert access.url.startswith(URL) and access.token in access.url
Svix(access.token, SvixOptions(server_url=URL)).authentication.logout()
svix.event_type.delete("invoice-line.paid")
svix.endpoint.delete("acme", "main")
refused(404, lambda: svix.endpoint.get("acme", "main"))
svix.application.delete("acme")
refused(404, lambda: svix.application.get("acme"))
print("done")
