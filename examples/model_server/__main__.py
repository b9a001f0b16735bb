"""`python -m examples.model_server`: serves model versions, each at its own addresses.

It prints one line for each version when that version accepts calls.
"""

import argparse
import sys
from collections.abc import Sequence

import uvloop

from .served_model import MODELS, ServedModel
from .server import serve
from .tensors import NotFoundError

EXIT_USAGE = 2


def main() -> None:
    """Exits with status 2 if a model does not exist or an address cannot be bound."""
    try:
        served, faults = _arguments(sys.argv[1:])
        servers = [
            (ServedModel.load(model, version, faults=faults), rest, grpc)
            for model, version, rest, grpc in served
        ]
        uvloop.run(serve(servers))
    except (NotFoundError, OSError, RuntimeError) as error:
        print(f"model_server: {error}", file=sys.stderr)
        sys.exit(EXIT_USAGE)


def _arguments(arguments: Sequence[str]) -> tuple[list[tuple[str, str, str, str]], bool]:
    """Model, version, REST address and gRPC address of each version to serve.

    The second value is whether callers may inject faults.
    """
    parser = argparse.ArgumentParser(prog="python -m examples.model_server", description=__doc__)
    parser.add_argument("--model", choices=MODELS, help="the model to serve")
    parser.add_argument("--version", default="v1", help="version of --model (default: v1)")
    parser.add_argument("--rest", default="127.0.0.1:9101", metavar="HOST:PORT")
    parser.add_argument("--grpc", default="127.0.0.1:9201", metavar="HOST:PORT")
    parser.add_argument(
        "--serve",
        nargs=3,
        action="append",
        default=[],
        metavar=("MODEL:VERSION", "REST", "GRPC"),
        help="a model version and its addresses; repeat the option to serve several",
    )
    parser.add_argument(
        "--faults", action="store_true", help="let every caller make calls fail or wait"
    )
    options = parser.parse_args(arguments)
    served = [(*name.partition(":")[::2], rest, grpc) for name, rest, grpc in options.serve]
    if options.model:
        served.append((options.model, options.version, options.rest, options.grpc))
    if not served:
        parser.error("no model to serve: use --model, or --serve for each model version")
    for address in (address for _, _, *addresses in served for address in addresses):
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            parser.error(f"invalid address {address!r}, expected HOST:PORT")
    return served, options.faults


if __name__ == "__main__":
    main()
