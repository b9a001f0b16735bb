"""NVIDIA's client: makes the call that each line of standard input asks for, as JSON.

It answers every line with one of its own. Run by the environment of peers, where `tritonclient` is;
in ours its messages and those of `protos/inference.proto` would claim the same names.
"""

import json
import sys
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

MODULES = {"grpc": tritonclient.grpc, "http": tritonclient.http}


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        module = MODULES[asked["protocol"]]
        with module.InferenceServerClient(asked["address"]) as client:
            try:
                answer = call(module, client, asked)
            except InferenceServerException as error:
                answer = {"status": error.status(), "error": error.message()}
        print(json.dumps(answer), flush=True)


def call(module: Any, client: Any, asked: dict[str, Any]) -> dict[str, Any]:
    named = {"model_name": asked["model"], "model_version": asked.get("version", "")}
    headers = asked.get("headers")
    if asked["call"] == "ready":
        return {"ready": client.is_model_ready(**named, headers=headers)}
    if asked["call"] == "metadata":
        found = client.get_model_metadata(**named, headers=headers)
        return {"name": found["name"] if isinstance(found, dict) else found.name}
    if asked["call"] == "unload":
        client.unload_model(asked["model"], headers=headers)
        return {}
    return infer(module, client, asked, {**named, "headers": headers})


def infer(module: Any, client: Any, asked: dict[str, Any], named: dict[str, Any]) -> dict[str, Any]:
    binary = {"binary_data": asked["binary"]} if module is tritonclient.http else {}
    compressed = {}
    if "compression" in asked:
        name = "request_" if module is tritonclient.http else ""
        compressed = {f"{name}compression_algorithm": asked["compression"]}
    inputs = []
    for entry in asked["inputs"]:
        dtype = triton_to_np_dtype(entry["datatype"])
        data = np.array(entry["data"], dtype).reshape(entry["shape"])
        tensor = module.InferInput(entry["name"], entry["shape"], entry["datatype"])
        # gRPC has one form only, the binary one.
        inputs.append(tensor.set_data_from_numpy(data, **binary))
    outputs = [module.InferRequestedOutput(name, **binary) for name in asked.get("outputs", [])]
    result = client.infer(inputs=inputs, outputs=outputs or None, **named, **compressed)
    found = {name: values(result, name) for name in output_names(result)}
    return {"outputs": found, **form(result)}


def output_names(result: Any) -> list[str]:
    response = result.get_response()
    if isinstance(response, dict):
        return [output["name"] for output in response["outputs"]]
    return [output.name for output in response.outputs]


def form(result: Any) -> dict[str, Any]:
    """Whether the outputs came as bytes behind the JSON."""
    response = result.get_response()
    if not isinstance(response, dict):
        return {}
    return {
        "binary": all(
            "binary_data_size" in output.get("parameters", {}) for output in response["outputs"]
        )
    }


def values(result: Any, name: str) -> list[Any]:
    found = result.as_numpy(name).tolist()
    return json.loads(json.dumps(found, default=bytes.decode))


if __name__ == "__main__":
    main()
