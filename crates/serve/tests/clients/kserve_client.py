"""The inference clients of KServe's SDK, over REST and over gRPC."""

import asyncio
import sys

from common import NUMBERS, STRINGS, arguments, same

PLACES = arguments()
# The SDK reads the arguments of whoever imports it.
sys.argv[1:] = []

import numpy as np  # noqa: E402
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig  # noqa: E402


def request(model, data, datatype, binary):
    tensor = InferInput("INPUT0", list(data.shape), datatype)
    tensor.set_data_from_numpy(data, binary_data=binary)
    return InferRequest(model_name=model, infer_inputs=[tensor], request_id="the id")


async def rest(address):
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    base = f"http://{address}"
    assert await client.is_server_live(base) and await client.is_server_ready(base)
    assert await client.is_model_ready(base, "identity_fp32")
    for datatype, data in NUMBERS.items():
        for binary in [True, False]:
            # The client itself sends no FP16 as JSON.
            if datatype == "FP16" and not binary:
                continue
            model = f"identity_{datatype.lower()}"
            answer = await client.infer(base, request(model, data, datatype, binary), model_name=model)
            assert answer.id == "the id" and answer.model_name == model
            same(answer.outputs[0].as_numpy(), data, f"{datatype} {binary}")
    text = np.array([["a", "b"]], dtype=np.object_)
    answer = await client.infer(base, request("identity_bytes", text, "BYTES", False), model_name="identity_bytes")
    assert answer.outputs[0].data == ["a", "b"], answer.outputs[0].data
    await client.close()


async def grpc(address):
    client = InferenceGRPCClient(address)
    assert await client.is_server_live() and await client.is_server_ready()
    assert await client.is_model_ready("identity_fp32")
    for datatype, data in NUMBERS.items():
        for binary in [True, False]:
            if datatype == "FP16" and not binary:
                continue
            answer = await client.infer(request(f"identity_{datatype.lower()}", data, datatype, binary))
            assert answer.id == "the id"
            same(answer.outputs[0].as_numpy(), data, f"{datatype} {binary}")
    answer = await client.infer(request("identity_bytes", STRINGS, "BYTES", True))
    same(answer.outputs[0].as_numpy(), STRINGS, "BYTES")
    await client.close()


async def main():
    await rest(PLACES.http)
    print("ok rest")
    await grpc(PLACES.grpc)
    print("ok grpc")


asyncio.run(main())
