"""Makes calls with NVIDIA's `tritonclient`: a line of JSON from standard input describes a call.

It writes the result of each call as a line of JSON to standard output. It runs in the virtual
environment of the peers: its protobuf messages have the same names as those of
`protos/inference.proto`, so both cannot be loaded in one process.
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
        options = json.loads(line)
        module = MODULES[options["protocol"]]
        with module.InferenceServerClient(options["address"]) as client:
            try:
                result = call(module, client, options)
            except InferenceServerException as error:
                result = {"status": error.status(), "error": error.message()}
        print(json.dumps(result), flush=True)


def call(module: Any, client: Any, options: dict[str, Any]) -> dict[str, Any]:
    model = {"model_name": options["model"], "model_version": options.get("version", "")}
    headers = options.get("headers")
    if options["call"] == "ready":
        return {"ready": client.is_model_ready(**model, headers=headers)}
    if options["call"] == "metadata":
        metadata = client.get_model_metadata(**model, headers=headers)
        return {"name": metadata["name"] if isinstance(metadata, dict) else metadata.name}
    if options["call"] == "server":
        metadata = client.get_server_metadata(headers=headers)
        live, ready = client.is_server_live(headers), client.is_server_ready(headers)
        return {"live": live, "ready": ready, "members": sorted(metadata)}
    if options["call"] == "unload":
        client.unload_model(options["model"], headers=headers)
        return {}
    return infer(module, client, options, {**model, "headers": headers})


def infer(
    module: Any, client: Any, options: dict[str, Any], model: dict[str, Any]
) -> dict[str, Any]:
    binary = {"binary_data": options["binary"]} if module is tritonclient.http else {}
    compression = {}
    if "compression" in options:
        name = "request_" if module is tritonclient.http else ""
        compression = {f"{name}compression_algorithm": options["compression"]}
    inputs = []
    for entry in options["inputs"]:
        dtype = triton_to_np_dtype(entry["datatype"])
        data = np.array(entry["data"], dtype).reshape(entry["shape"])
        tensor = module.InferInput(entry["name"], entry["shape"], entry["datatype"])
        # gRPC tensors are always binary.
        inputs.append(tensor.set_data_from_numpy(data, **binary))
    names = options.get("outputs", [])
    requested = [module.InferRequestedOutput(name, **binary) for name in names]
    result = client.infer(inputs=inputs, outputs=requested or None, **model, **compression)
    outputs = {name: values(result, name) for name in output_names(result)}
    return {"outputs": outputs, **binary_outputs(result)}


def output_names(result: Any) -> list[str]:
    response = result.get_response()
    if isinstance(response, dict):
        return [output["name"] for output in response["outputs"]]
    return [output.name for output in response.outputs]


def binary_outputs(result: Any) -> dict[str, Any]:
    """Whether a REST response has its outputs in binary form, after the JSON."""
    response = result.get_response()
    if not isinstance(response, dict):
        return {}
    return {
        "binary": all(
            "binary_data_size" in output.get("parameters", {}) for output in response["outputs"]
        )
    }


def values(result: Any, name: str) -> list[Any]:
    elements = result.as_numpy(name).tolist()
    return json.loads(json.dumps(elements, default=bytes.decode))


if __name__ == "__main__":
    main()
