"""The predictions of a search, confirmed and dropped: in lines, and in the document."""

from __future__ import annotations

from cluster.cli.documents import Facts
from cluster.cli.output import Output
from cluster.search.attempts import Attempt
from cluster.search.explore import Exploration
from cluster.search.predict import Prediction
from cluster.search.steer import Predict
from shared.text import counted

#: lines about predictions that were dropped, at most
LINES = 8


def say(output: Output, predict: Predict, search: Exploration) -> None:
    """Which predictions were confirmed, and which were not; a prediction alone is not a finding."""
    confirmed, dropped = _sorted(predict, search)
    left = len(predict.attempts.left)
    predicted = len(confirmed) + len(dropped) + left
    output.say(
        f"{counted(predicted, 'prediction')}: {len(confirmed)} confirmed, {len(dropped)} dropped, {left} not tried"
    )
    for attempt in confirmed:
        how = "confirmed" if attempt.reached else "confirmed on the way"
        output.say(f"  {how}: {attempt.prediction}")
    for attempt in dropped[:LINES]:
        why = "came about, no finding" if attempt.reached else "did not come about"
        output.say(f"  dropped ({why}): {attempt.prediction}")
    if len(dropped) > LINES:
        output.say(f"  and {len(dropped) - LINES} more; --json lists all")


def facts(predict: Predict, search: Exploration) -> Facts:
    """The same for the document."""
    confirmed, dropped = _sorted(predict, search)
    return {
        "confirmed": [_document(attempt.prediction, attempt.reached) for attempt in confirmed],
        "dropped": [_document(attempt.prediction, attempt.reached) for attempt in dropped],
        "left": [_document(prediction, None) for prediction in predict.attempts.left],
    }


def _sorted(predict: Predict, search: Exploration) -> tuple[list[Attempt], list[Attempt]]:
    """The attempts that had the finding, and those that had none."""
    begun = enumerate(predict.attempts.begun, 1)
    tried = [(number, attempt) for number, attempt in begun if attempt.prediction is not None]
    confirmed = [attempt for number, attempt in tried if number == search.found_at]
    return confirmed, [attempt for number, attempt in tried if number != search.found_at]


def _document(prediction: Prediction | None, reached: bool | None) -> Facts:
    assert prediction is not None, "the first executions confirm nothing"
    facts: Facts = {
        "kind": prediction.kind,
        "about": prediction.location or None,
        "operations": [
            {"context": operation.context, "n": operation.n, "function": operation.function, "event": operation.code}
            for operation in dict.fromkeys((prediction.delayed, prediction.other))
        ],
        "choice": None if prediction.value is None else prediction.value[1],
        "sure": prediction.sure,
    }
    return facts if reached is None else {**facts, "came_about": reached}
