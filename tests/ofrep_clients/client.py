"""Asks a server questions through OpenFeature's own Python SDK and OFREP provider, as a service would.

`python client.py URL < questions`: the questions are a JSON array of { flag, type, default, context }, where type is
"boolean" or "string"; the answers come out as a JSON array in the same order.
"""

import json
import logging
import signal
import sys

from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext

GIVE_UP_AFTER_S = 60


def context_of(question):
    attributes = dict(question["context"])
    targeting_key = attributes.pop("targetingKey", None)
    return EvaluationContext(targeting_key, attributes)


def main():
    signal.alarm(GIVE_UP_AFTER_S)
    # What goes wrong is part of the answer; the SDK would say it once more on the console.
    logging.disable(logging.CRITICAL)
    questions = json.load(sys.stdin)
    api.set_provider(OFREPProvider(sys.argv[1]))
    client = api.get_client()
    ask = {"boolean": client.get_boolean_details, "string": client.get_string_details}
    answers = []
    for question in questions:
        details = ask[question["type"]](question["flag"], question["default"], context_of(question))
        answers.append(
            {
                "value": details.value,
                "variant": details.variant,
                "reason": details.reason and str(details.reason),
                "errorCode": details.error_code and details.error_code.value,
                "metadata": dict(details.flag_metadata),
            }
        )
    json.dump(answers, sys.stdout)


main()
