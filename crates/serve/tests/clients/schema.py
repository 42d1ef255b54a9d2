"""schemathesis against the OpenAPI document: answers are as described, whatever is sent."""

import subprocess
import sys
import tempfile

from common import arguments

HTTP = arguments().http

# Which tensors and inputs a model takes is not for the document to say, so that valid ones are accepted is not asked.
command = [
    sys.executable,
    "-m",
    "schemathesis.cli",
    "run",
    f"http://{HTTP}/openapi.json",
    "--phases=examples,coverage,fuzzing",
    "--exclude-checks=positive_data_acceptance",
    # What is unloaded answers 503, as it should, and nothing else would be tried.
    "--exclude-path=/v2/repository/models/{name}/unload",
    "--max-examples=5",
    "--seed=1",
    "--header=Authorization: Bearer brz_schema",
    "--request-timeout=60",
    "--no-color",
]
# It leaves a folder of what it found where it runs.
with tempfile.TemporaryDirectory() as folder:
    sys.exit(subprocess.run(command, check=False, cwd=folder).returncode)
