"""What the report counts."""

import language
import pomona
from pomona.report.terminal import text


def test_bytes_of_keys_and_values_are_told_where_they_changed_or_were_asked_for(tmp_path):
    model, data = language.model("llama")
    asked = pomona.prune(model, data[0], goal="kv=0.5x", latency=False)
    before = pomona.trace(model, data[0]).costs().kv_bytes
    after = pomona.trace(asked.model, data[0]).costs().kv_bytes
    assert asked.report.kv == {"before": before, "after": after} and after <= before / 2
    assert "KV cache a token" in text(asked.report)
    assert "KV cache a token" in pomona.report.html(asked.report)
    others = pomona.prune(model, data[0], goal="neurons=0.5", latency=False)
    assert others.report.kv is None and "KV cache" not in text(others.report)
