import json

import pytest

from pomona.models import Source
from pomona.vocabulary import InputError


def test_a_source_survives_json():
    source = Source("transformers", "folder", "BertModel", {"hidden_size": 8, "nested": {"a": [1, 2]}})
    assert Source.from_json(json.loads(json.dumps(source.to_json()))) == source


@pytest.mark.parametrize("data", [{}, {"kind": "pickle", "value": "x"}, {"kind": "timm", "value": "x", "extra": 1}])
def test_anything_else_is_refused(data):
    with pytest.raises(InputError, match="kind"):
        Source.from_json(data)
