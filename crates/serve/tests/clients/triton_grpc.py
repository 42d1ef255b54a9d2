"""tritonclient.grpc, as its users call it, and the services of gRPC itself."""

import queue

import grpc
import ml_dtypes
import numpy as np
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from common import BYTES, EXTENSIONS, NUMBERS, STRINGS, arguments, refused, same


def tensor(name, data, datatype):
    made = triton.InferInput(name, list(data.shape), datatype)
    made.set_data_from_numpy(data)
    return made


def describes(client, _):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("simple") and client.is_model_ready("simple", "1")
    server = client.get_server_metadata()
    assert server.name == "brazier" and set(server.extensions) == EXTENSIONS, server
    model = client.get_model_metadata("simple")
    assert model.inputs[0].name == "INPUT0" and list(model.inputs[0].shape) == [-1, 16], model
    config = client.get_model_config("simple").config
    assert config.max_batch_size == 8 and list(config.input[0].dims) == [16], config
    assert config.input[0].data_type == 8, "TYPE_INT32"
    index = client.get_model_repository_index().models
    assert ("simple", "1", "READY") in [(one.name, one.version, one.state) for one in index], index
    refused(InferenceServerException, lambda: client.get_model_metadata("nowhere"), "NOT_FOUND", "nowhere")


def every_datatype(client, _):
    for datatype, data in NUMBERS.items():
        for packed in [None, "gzip", "deflate"]:
            name = f"identity_{datatype.lower()}"
            answer = client.infer(
                name, [tensor("INPUT0", data, datatype)], request_id="7", compression_algorithm=packed
            )
            same(answer.as_numpy("OUTPUT0"), data, f"{datatype} {packed}")
            assert answer.get_response().id == "7"
    for data in [STRINGS, BYTES]:
        answer = client.infer("identity_bytes", [tensor("INPUT0", data, "BYTES")])
        same(answer.as_numpy("OUTPUT0"), data, "BYTES")
    half = np.array([[1.5, -2.0]], dtype=ml_dtypes.bfloat16)
    answer = client.infer("identity_bf16", [tensor("INPUT0", half, "BF16")])
    same(answer.as_numpy("OUTPUT0"), half, "BF16")
    data = np.array([[np.nan, np.inf, -np.inf]], dtype=np.float32)
    answer = client.infer("identity_fp32", [tensor("INPUT0", data, "FP32")])
    assert answer.as_numpy("OUTPUT0").tobytes() == data.tobytes()


def typed_contents(_, channel):
    """Contents that are lists of numbers, which other languages' clients send."""
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    fields = {
        "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
        "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
        "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents",
    }
    for datatype, field in fields.items():
        data = NUMBERS[datatype]
        request = service_pb2.ModelInferRequest(model_name=f"identity_{datatype.lower()}")
        given = request.inputs.add(name="INPUT0", datatype=datatype, shape=data.shape)
        getattr(given.contents, field).extend(data.flatten().tolist())
        answer = stub.ModelInfer(request)
        assert answer.raw_output_contents[0] == data.tobytes(), datatype
    request = service_pb2.ModelInferRequest(model_name="identity_int8")
    given = request.inputs.add(name="INPUT0", datatype="INT8", shape=[1, 1])
    given.contents.int_contents.append(128)
    refused(grpc.RpcError, lambda: stub.ModelInfer(request), "INVALID_ARGUMENT", "outside the range")
    given.contents.int_contents[:] = [1, 2]
    refused(grpc.RpcError, lambda: stub.ModelInfer(request), "INVALID_ARGUMENT", "holds 2")
    given.shape[:] = [2**62, 4]
    refused(grpc.RpcError, lambda: stub.ModelInfer(request), "INVALID_ARGUMENT", "can be counted")
    given.shape[:] = [-1, 2]
    refused(grpc.RpcError, lambda: stub.ModelInfer(request), "INVALID_ARGUMENT", "no size")


def several_inputs(client, _):
    ones, counts = np.ones((2, 16), dtype=np.int32), np.arange(32, dtype=np.int32).reshape(2, 16)
    inputs = [tensor("INPUT1", ones, "INT32"), tensor("INPUT0", counts, "INT32")]
    outputs = [triton.InferRequestedOutput("OUTPUT1"), triton.InferRequestedOutput("OUTPUT0")]
    answer = client.infer(
        "simple", inputs, outputs=outputs, priority=1, timeout=10_000_000, client_timeout=10,
        parameters={"text": "a", "number": 1, "flag": True},
    )
    same(answer.as_numpy("OUTPUT0"), counts + ones, "sum")
    same(answer.as_numpy("OUTPUT1"), counts - ones, "difference")
    assert [output.name for output in answer.get_response().outputs] == ["OUTPUT1", "OUTPUT0"]
    scores = np.array([[0.25, 4.0, 1.0]], dtype=np.float32)
    outputs = [triton.InferRequestedOutput("OUTPUT0", class_count=1)]
    answer = client.infer("identity_fp32", [tensor("INPUT0", scores, "FP32")], outputs=outputs)
    assert answer.as_numpy("OUTPUT0")[0, 0] == b"4.000000:1"
    a, b = np.array([1.0, 2.0, 3.0], dtype=np.float32), np.array([4.0], dtype=np.float32)
    answer = client.infer("concatenate", [tensor("INPUT0", a, "FP32"), tensor("INPUT1", b, "FP32")])
    same(answer.as_numpy("OUTPUT0"), np.concatenate([a, b]), "without batches")


def stream(client, _):
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for number in range(10):
        data = np.full((1, 3), number, dtype=np.float32)
        client.async_stream_infer("identity_fp32", [tensor("INPUT0", data, "FP32")], request_id=str(number))
    for number in range(10):
        result, error = answers.get(timeout=30)
        assert error is None and result.get_response().id == str(number), (number, error)
        same(result.as_numpy("OUTPUT0"), np.full((1, 3), number, dtype=np.float32), f"stream {number}")
    # A wrong request is one answer, and the stream goes on.
    client.async_stream_infer("nowhere", [tensor("INPUT0", np.zeros((1, 1), np.float32), "FP32")])
    result, error = answers.get(timeout=30)
    assert "nowhere" in str(error)
    client.async_stream_infer("identity_fp32", [tensor("INPUT0", np.zeros((1, 1), np.float32), "FP32")])
    assert answers.get(timeout=30)[1] is None
    client.stop_stream()


def refuses(client, channel):
    good = np.zeros((1, 16), dtype=np.int32)
    both = [tensor("INPUT0", good, "INT32"), tensor("INPUT1", good, "INT32")]
    cases = [
        (lambda: client.infer("nowhere", both), "NOT_FOUND", "nowhere"),
        (lambda: client.infer("simple", both[:1]), "INVALID_ARGUMENT", "INPUT1"),
        (lambda: client.infer("simple", both, outputs=[triton.InferRequestedOutput("OUTPUT9")]), "OUTPUT9"),
        (lambda: client.infer("simple", both, model_version="9"), "NOT_FOUND"),
        (lambda: client.get_system_shared_memory_status(), "UNIMPLEMENTED"),
    ]
    for call, *parts in cases:
        refused(InferenceServerException, call, *parts)
        assert client.is_server_live()
    unknown = channel.unary_unary("/no.such.Service/Call")
    refused(grpc.RpcError, lambda: unknown(b""), "UNIMPLEMENTED", "no service")
    broken = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    refused(grpc.RpcError, lambda: broken(b"\xff\xff\xff\xff\x0f"), "decode")
    huge = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    refused(grpc.RpcError, lambda: huge(bytes(20 << 20)), "OUT_OF_RANGE")
    assert client.is_server_live()


def statistics_and_settings(client, _):
    stats = client.get_inference_statistics("simple", "1").model_stats[0]
    assert stats.inference_count >= 2 and stats.inference_stats.success.count > 0, stats
    assert stats.batch_stats[0].compute_infer.count > 0, stats
    assert len(client.get_inference_statistics().model_stats) > 10
    assert client.get_log_settings().settings["log_info"].bool_param is True
    changed = client.update_log_settings({"log_verbose_level": 0, "log_info": True})
    assert changed.settings["log_warning"].bool_param is True
    refused(InferenceServerException, lambda: client.update_log_settings({"log_file": "/x"}), "log_file")
    changed = client.update_trace_settings("simple", {"trace_level": "TIMESTAMPS", "trace_rate": "5"})
    assert list(changed.settings["trace_rate"].value) == ["5"], changed
    changed = client.update_trace_settings("simple", {"trace_level": None, "trace_rate": None})
    assert list(changed.settings["trace_level"].value) == ["OFF"], changed


def repository(client, _):
    client.unload_model("loadable")
    assert not client.is_model_ready("loadable")
    client.load_model("loadable")
    assert client.is_model_ready("loadable")
    refused(InferenceServerException, lambda: client.load_model("nowhere"), "NOT_FOUND")
    refused(InferenceServerException, lambda: client.load_model("loadable", config="{}"), "config")


def health_and_reflection(_, channel):
    health = health_pb2_grpc.HealthStub(channel)
    serving = health_pb2.HealthCheckResponse.SERVING
    for service in ["", "inference.GRPCInferenceService", "simple"]:
        assert health.Check(health_pb2.HealthCheckRequest(service=service)).status == serving, service
    watched = health.Watch(health_pb2.HealthCheckRequest(service=""))
    assert next(watched).status == serving
    watched.cancel()
    refused(grpc.RpcError, lambda: health.Check(health_pb2.HealthCheckRequest(service="nowhere")), "NOT_FOUND")
    services = ProtoReflectionDescriptorDatabase(channel)
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= set(services.get_services())
    found = services.FindFileContainingSymbol("inference.ModelInferRequest")
    assert found.package == "inference"


address = arguments().grpc
with triton.InferenceServerClient(address) as client, grpc.insecure_channel(address) as channel:
    for check in [
        describes, every_datatype, typed_contents, several_inputs, stream, refuses, statistics_and_settings,
        repository, health_and_reflection,
    ]:
        check(client, channel)
        print(f"ok {check.__name__}")
