"""tritonclient.http, as its users call it."""

import ml_dtypes
import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from common import BYTES, EXTENSIONS, NUMBERS, STRINGS, arguments, refused, same


def tensor(name, data, datatype, binary=True):
    made = triton.InferInput(name, list(data.shape), datatype)
    made.set_data_from_numpy(data, binary_data=binary)
    return made


def describes(client):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("simple") and client.is_model_ready("simple", "1")
    assert not client.is_model_ready("nowhere")
    server = client.get_server_metadata()
    assert server["name"] == "brazier" and set(server["extensions"]) == EXTENSIONS, server
    model = client.get_model_metadata("simple")
    assert model["inputs"][0] == {"name": "INPUT0", "datatype": "INT32", "shape": [-1, 16]}, model
    config = client.get_model_config("simple")
    assert config["max_batch_size"] == 8 and config["input"][0]["dims"] == [16], config
    index = client.get_model_repository_index()
    assert {"name": "simple", "version": "1", "state": "READY", "reason": ""} in index, index
    refused(InferenceServerException, lambda: client.get_model_metadata("nowhere"), "nowhere")


def every_datatype(client):
    for datatype, data in NUMBERS.items():
        name = f"identity_{datatype.lower()}"
        for binary_in in [True, False]:
            # The client itself sends no FP16 as JSON.
            if datatype == "FP16" and not binary_in:
                continue
            for binary_out in [True, False]:
                outputs = [triton.InferRequestedOutput("OUTPUT0", binary_data=binary_out)]
                inputs = [tensor("INPUT0", data, datatype, binary_in)]
                answer = client.infer(name, inputs, outputs=outputs, request_id="7")
                same(answer.as_numpy("OUTPUT0"), data, f"{datatype} {binary_in} {binary_out}")
                assert answer.get_response()["id"] == "7"
        # Without named outputs the client asks for binary.
        answer = client.infer(name, [tensor("INPUT0", data, datatype)])
        same(answer.as_numpy("OUTPUT0"), data, datatype)
    for binary in [True, False]:
        outputs = [triton.InferRequestedOutput("OUTPUT0", binary_data=binary)]
        answer = client.infer("identity_bytes", [tensor("INPUT0", STRINGS, "BYTES", binary)], outputs=outputs)
        same(answer.as_numpy("OUTPUT0"), STRINGS, f"BYTES {binary}")
    answer = client.infer("identity_bytes", [tensor("INPUT0", BYTES, "BYTES")])
    same(answer.as_numpy("OUTPUT0"), BYTES, "bytes that are no text")
    half = np.array([[1.5, -2.0]], dtype=ml_dtypes.bfloat16)
    answer = client.infer("identity_bf16", [tensor("INPUT0", half, "BF16")])
    same(answer.as_numpy("OUTPUT0"), half, "BF16")


def nan_and_infinity(client):
    data = np.array([[np.nan, np.inf, -np.inf, 0.0]], dtype=np.float32)
    answer = client.infer("identity_fp32", [tensor("INPUT0", data, "FP32")])
    assert answer.as_numpy("OUTPUT0").tobytes() == data.tobytes()
    # JSON has none of them: null comes back.
    outputs = [triton.InferRequestedOutput("OUTPUT0", binary_data=False)]
    answer = client.infer("identity_fp32", [tensor("INPUT0", data, "FP32")], outputs=outputs)
    assert answer.get_response()["outputs"][0]["data"] == [None, None, None, 0.0]


def several_inputs(client):
    ones, counts = np.ones((2, 16), dtype=np.int32), np.arange(32, dtype=np.int32).reshape(2, 16)
    inputs = [tensor("INPUT1", ones, "INT32"), tensor("INPUT0", counts, "INT32", False)]
    outputs = [
        triton.InferRequestedOutput("OUTPUT1", binary_data=True),
        triton.InferRequestedOutput("OUTPUT0", binary_data=False),
    ]
    compressed = [None, "gzip", "deflate"]
    for packed in compressed:
        for wanted in compressed:
            answer = client.infer(
                "simple",
                inputs,
                outputs=outputs,
                request_compression_algorithm=packed,
                response_compression_algorithm=wanted,
                priority=1,
                timeout=10_000_000,
                sequence_id=5,
                sequence_start=True,
            )
            same(answer.as_numpy("OUTPUT0"), counts + ones, f"{packed} {wanted}")
            same(answer.as_numpy("OUTPUT1"), counts - ones, f"{packed} {wanted}")
    long = np.arange(4096, dtype=np.float32).reshape(1, -1)
    for packed in compressed:
        answer = client.infer(
            "identity_fp32",
            [tensor("INPUT0", long, "FP32")],
            request_compression_algorithm=packed,
            response_compression_algorithm=packed,
        )
        same(answer.as_numpy("OUTPUT0"), long, f"long {packed}")
    text = np.array([[str(n).encode() for n in range(16)]], dtype=np.object_)
    answer = client.infer("simple_string", [tensor("INPUT0", text, "BYTES"), tensor("INPUT1", text, "BYTES")])
    assert answer.as_numpy("OUTPUT0")[0, 15] == b"30" and answer.as_numpy("OUTPUT1")[0, 15] == b"0"
    a, b = np.array([1.0, 2.0, 3.0], dtype=np.float32), np.array([4.0], dtype=np.float32)
    answer = client.infer("concatenate", [tensor("INPUT0", a, "FP32"), tensor("INPUT1", b, "FP32")])
    same(answer.as_numpy("OUTPUT0"), np.concatenate([a, b]), "without batches")


def raw_and_generated(client):
    # A body that is made ahead and sent again and again.
    data = np.arange(3, dtype=np.float32).reshape(1, 3)
    body, length = triton.InferenceServerClient.generate_request_body([tensor("INPUT0", data, "FP32")])
    answer = client._post("v2/models/identity_fp32/infer", body, {"Inference-Header-Content-Length": str(length)}, None)
    assert answer.status_code == 200
    found = triton.InferenceServerClient.parse_response_body(
        answer.read(), header_length=answer.get("Inference-Header-Content-Length") and int(answer.get("Inference-Header-Content-Length"))
    )
    same(found.as_numpy("OUTPUT0"), data, "generated")
    # No JSON at all: the body is the input.
    answer = client._post("v2/models/identity_fp32/infer", data.tobytes(), {"Inference-Header-Content-Length": "0"}, None)
    body, length = answer.read(), int(answer.get("Inference-Header-Content-Length"))
    assert bytes(body[length:]) == data.tobytes(), body


def classes(client):
    data = np.array([[0.25, 4.0, 1.0]], dtype=np.float32)
    outputs = [triton.InferRequestedOutput("OUTPUT0", class_count=2)]
    answer = client.infer("identity_fp32", [tensor("INPUT0", data, "FP32")], outputs=outputs)
    assert [text.decode() for text in answer.as_numpy("OUTPUT0")[0]] == ["4.000000:1", "1.000000:2"]


def threads(client):
    data = [np.full((1, 16), n, dtype=np.int32) for n in range(32)]
    ones = np.ones((1, 16), dtype=np.int32)
    asked = [
        client.async_infer("simple", [tensor("INPUT0", d, "INT32"), tensor("INPUT1", ones, "INT32")]) for d in data
    ]
    for number, pending in enumerate(asked):
        same(pending.get_result().as_numpy("OUTPUT0"), data[number] + 1, f"request {number}")


def refuses(client):
    good = np.zeros((1, 16), dtype=np.int32)
    both = [tensor("INPUT0", good, "INT32"), tensor("INPUT1", good, "INT32")]
    wide = np.zeros((1, 17), dtype=np.int32)
    cases = [
        (lambda: client.infer("nowhere", both), "nowhere"),
        (lambda: client.infer("simple", both[:1]), "INPUT1", "missing"),
        (lambda: client.infer("simple", [both[0], tensor("INPUT1", wide, "INT32")]), "INPUT1"),
        (lambda: client.infer("simple", both, outputs=[triton.InferRequestedOutput("OUTPUT9")]), "OUTPUT9"),
        (lambda: client.infer("simple", both, model_version="9"), "version"),
        (lambda: client.infer("simple_string", [
            tensor("INPUT0", np.full((1, 16), b"x", dtype=np.object_), "BYTES"),
            tensor("INPUT1", np.full((1, 16), b"1", dtype=np.object_), "BYTES"),
        ]), "no number"),
    ]
    for call, *parts in cases:
        refused(InferenceServerException, call, *parts)
        assert client.is_server_live()


def statistics_and_settings(client):
    stats = client.get_inference_statistics("simple", "1")["model_stats"][0]
    assert stats["inference_count"] >= 2 and stats["inference_stats"]["success"]["count"] > 0, stats
    assert stats["inference_stats"]["success"]["ns"] > 0 and stats["last_inference"] > 0, stats
    assert stats["batch_stats"][0]["compute_infer"]["count"] > 0, stats
    assert len(client.get_inference_statistics()["model_stats"]) > 10
    assert client.get_log_settings()["log_info"] is True
    assert client.update_log_settings({"log_verbose_level": 0, "log_info": True})["log_warning"] is True
    refused(InferenceServerException, lambda: client.update_log_settings({"log_file": "/tmp/x"}), "log_file")
    changed = client.update_trace_settings("simple", {"trace_level": ["TIMESTAMPS"], "trace_rate": "1"})
    assert changed["trace_level"] == ["TIMESTAMPS"] and changed["trace_rate"] == "1", changed
    assert client.get_trace_settings()["trace_level"] == ["OFF"]
    assert client.update_trace_settings("simple", {"trace_level": None})["trace_level"] == ["OFF"]


def repository(client):
    client.unload_model("loadable")
    assert not client.is_model_ready("loadable")
    client.load_model("loadable")
    assert client.is_model_ready("loadable")
    refused(InferenceServerException, lambda: client.load_model("nowhere"), "nowhere")
    refused(InferenceServerException, lambda: client.load_model("loadable", config="{}"), "config")
    refused(
        InferenceServerException,
        lambda: client.load_model("loadable", config="{}", files={"file:1/../../x": b"no"}),
        "repository",
    )


with triton.InferenceServerClient(arguments().http, concurrency=8) as client:
    for check in [
        describes, every_datatype, nan_and_infinity, several_inputs, raw_and_generated, classes, threads, refuses,
        statistics_and_settings, repository,
    ]:
        check(client)
        print(f"ok {check.__name__}")
