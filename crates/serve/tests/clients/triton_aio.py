"""The asynchronous clients of tritonclient: many requests at a time, each with its own answer."""

import asyncio

import numpy as np
import tritonclient.grpc.aio as grpc
import tritonclient.http.aio as http

from common import arguments, same


async def many(client, module):
    assert await client.is_server_ready() and await client.is_model_ready("simple")

    async def one(number):
        a, b = np.full((1, 16), number, dtype=np.int32), np.arange(16, dtype=np.int32).reshape(1, 16)
        inputs = [module.InferInput("INPUT0", [1, 16], "INT32"), module.InferInput("INPUT1", [1, 16], "INT32")]
        inputs[0].set_data_from_numpy(a)
        inputs[1].set_data_from_numpy(b)
        answer = await client.infer("simple", inputs, request_id=str(number))
        same(answer.as_numpy("OUTPUT0"), a + b, f"request {number}")
        same(answer.as_numpy("OUTPUT1"), a - b, f"request {number}")

    await asyncio.gather(*[one(number) for number in range(64)])


async def stream(client):
    async def requests():
        for number in range(5):
            data = np.full((1, 2), number, dtype=np.float32)
            tensor = grpc.InferInput("INPUT0", [1, 2], "FP32")
            tensor.set_data_from_numpy(data)
            yield {"model_name": "identity_fp32", "inputs": [tensor], "request_id": str(number)}

    number = 0
    async for result, error in client.stream_infer(requests()):
        assert error is None and result.get_response().id == str(number)
        number += 1
        if number == 5:
            break


async def main():
    places = arguments()
    async with http.InferenceServerClient(places.http) as client:
        await many(client, http)
        print("ok http")
    async with grpc.InferenceServerClient(places.grpc) as client:
        await many(client, grpc)
        print("ok grpc")
        await stream(client)
        print("ok stream")


asyncio.run(main())
