"""What the scripts share: the arguments, the data of each datatype, and checks that say what they found."""

import argparse

import numpy as np

# Extremes of each datatype among them, so that a wrong width or sign shows.
NUMBERS = {
    "BOOL": np.array([[True, False, True]]),
    "UINT8": np.array([[0, 1, 255]], dtype=np.uint8),
    "UINT16": np.array([[0, 1, 65535]], dtype=np.uint16),
    "UINT32": np.array([[0, 1, 2**32 - 1]], dtype=np.uint32),
    "UINT64": np.array([[0, 1, 2**64 - 1]], dtype=np.uint64),
    "INT8": np.array([[-128, 0, 127]], dtype=np.int8),
    "INT16": np.array([[-(2**15), 0, 2**15 - 1]], dtype=np.int16),
    "INT32": np.array([[-(2**31), 0, 2**31 - 1]], dtype=np.int32),
    "INT64": np.array([[-(2**63), 0, 2**63 - 1]], dtype=np.int64),
    "FP16": np.array([[-1.5, 0.0, 65504.0]], dtype=np.float16),
    "FP32": np.array([[-1.5, 0.0, 3.4028235e38]], dtype=np.float32),
    "FP64": np.array([[-1.5, 0.0, 1.7976931348623157e308]], dtype=np.float64),
}
STRINGS = np.array([["", "plain", "Grüße, 世界"]], dtype=np.object_)
# Bytes that are no text, which binary alone carries.
BYTES = np.array([[b"", b"\x00\xff\xfe", b"plain"]], dtype=np.object_)

EXTENSIONS = {
    "binary_tensor_data",
    "classification",
    "logging",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
    "trace",
}


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--http", required=True)
    parser.add_argument("--grpc", required=True)
    return parser.parse_args()


def same(found, expected, what):
    """Equal to the bit; strings as bytes, which is how they come back."""
    expected = np.asarray(expected)
    if expected.dtype == np.object_:
        as_bytes = np.vectorize(lambda text: text.encode() if isinstance(text, str) else text, otypes=[object])
        expected, found = as_bytes(expected), as_bytes(np.asarray(found, dtype=object))
    assert found is not None, what
    assert found.shape == expected.shape, f"{what}: {found.shape} is not {expected.shape}"
    assert (found == expected).all(), f"{what}: {found} is not {expected}"


def refused(error, call, *parts):
    """The call must fail with an error that has these parts in its text."""
    try:
        answer = call()
    except error as refusal:
        text = str(refusal)
        for part in parts:
            assert part in text, f"{part!r} is not in {text!r}"
        return
    raise AssertionError(f"not refused: {answer}")
