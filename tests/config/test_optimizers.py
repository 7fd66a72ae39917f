"""What each optimizer refuses."""

import pytest
from pydantic import ValidationError

from keras_pipeline.config.optimizers import OPTIMIZERS
from validated_optimizers import validated


def test_each_refuses_what_is_not_its_own_or_out_of_range() -> None:
    for name in OPTIMIZERS:
        with pytest.raises(ValidationError, match="extra_forbidden"):
            validated(name, unheard_of=1)
        with pytest.raises(ValidationError, match="less than or equal to 1"):
            validated(name, weight_decay=1.5)
        for argument in OPTIMIZERS[name]:
            with pytest.raises(ValidationError):
                validated(name, **{argument: "text"})
            with pytest.raises(ValidationError):
                validated(name, **{argument: None})
    with pytest.raises(ValidationError, match="does not match any of the expected tags"):
        validated("adm")


@pytest.mark.parametrize("one", ["clipnorm", "clipvalue", "global_clipnorm"])
def test_gradients_are_clipped_in_one_way(one: str) -> None:
    for other in {"clipnorm", "clipvalue", "global_clipnorm"} - {one}:
        with pytest.raises(ValidationError, match="Keep one of clipnorm, clipvalue, global_clipnorm"):
            validated("adam", **{one: 1.0, other: 1.0})
