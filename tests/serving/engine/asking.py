"""Questions to a loaded model, without a process around it."""

import json

from aimass.serving.engine.batch import Question, Spent, answer, read
from aimass.serving.engine.models import LoadedModel, ServingSettings
from aimass.serving.frames import Ask


def loaded(model, **settings):
    return LoadedModel("ver-1", "churn", 7, model, ServingSettings(**settings))


def together(model, bodies, kind="predict"):
    """Statuses and decoded replies of requests that run as one batch."""
    questions = [Question(None, Ask(place, "answer", "ver-1", kind), body, 0) for place, body in enumerate(bodies)]
    for question in questions:
        read(model, question)
    answer(model, questions, Spent())
    return [(question.status, json.loads(question.reply)) for question in questions]


def predict(model, rows):
    return together(model, [json.dumps({"instances": rows}).encode()])[0]


def infer(model, request, binary=b""):
    """Status, the reply's JSON and the bytes after it."""
    head = json.dumps(request).encode()
    question = Question(None, Ask(0, "answer", "ver-1", "infer", len(head) if binary else 0), head + binary, 0)
    read(model, question)
    if question.num_rows:
        answer(model, [question], Spent())
    length = question.json_length or len(question.reply)
    return question.status, json.loads(question.reply[:length]), question.reply[length:]


def as_json(answers):
    """Answers of `Model.predict` after a way through JSON, which makes keys text."""
    return json.loads(json.dumps(answers))
