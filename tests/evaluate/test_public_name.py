import subprocess
import sys

import pytest

CALL = "import torch; pomona.evaluate(torch.nn.Linear(2, 2), [(torch.ones(3, 2), torch.zeros(3).long())]).value"


@pytest.mark.parametrize("first", ["pass", "import pomona.evaluate", "from pomona.evaluate import count"])
def test_evaluate_can_be_called_whatever_was_imported_before(first):
    subprocess.run([sys.executable, "-c", f"import pomona\n{first}\n{CALL}"], check=True)
