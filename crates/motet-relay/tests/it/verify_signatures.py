"""Verifies deliveries with the Standard Webhooks reference library.

argv[1] is the secret; standard input is a JSON list of {"headers": .., "body": ..}; standard output is a
JSON list of "ok" or the library's reason.
"""

import json
import sys

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

webhook = Webhook(sys.argv[1])
verdicts = []
for delivery in json.load(sys.stdin):
    try:
        webhook.verify(delivery["body"], delivery["headers"])
        verdicts.append("ok")
    except WebhookVerificationError as error:
        verdicts.append(str(error))
json.dump(verdicts, sys.stdout)
