"""Params as MLflow shows them."""

import pytest

from keras_pipeline.tracking import runs
from tracking_fixtures import MLFLOW_WARNINGS

pytestmark = MLFLOW_WARNINGS


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("[512, 256]", "512, 256"),
        ("[]", "none"),
        ('[{"layer": "Flatten"}]', '[{"layer": "Flatten"}]'),
        (0.001, "0.001"),
        (True, "True"),
        ("x" * 500, "x" * 500),
    ],
)
def test_params_are_shown_as_people_read_them(value: object, text: str) -> None:
    assert runs.shortened(value) == text


def test_a_long_param_keeps_its_beginning_and_differs_from_every_other() -> None:
    texts = [runs.shortened(f'[{{"layer": "Flatten"}}, {"x" * length}]') for length in (600, 601)]
    assert all(len(text) <= 500 and text.startswith('[{"layer": "Flatten"}') for text in texts)
    assert texts[0] != texts[1]
