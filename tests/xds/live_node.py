"""A node with a real connection to a control plane, which accepts or rejects policies."""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc

from protos.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from sluice.contract.names import POLICY_TYPE_URL
from sluice.contract.paths import ADS_STREAM

Accept = Callable[[DiscoveryResponse], bool]


@contextmanager
def live_node(address: str, name: str, accept: Accept) -> Iterator[None]:
    """A node that subscribes to the policy, until the end of the block."""
    requests: queue.SimpleQueue[DiscoveryRequest | None] = queue.SimpleQueue()
    subscription = DiscoveryRequest(type_url=POLICY_TYPE_URL)
    subscription.node.id = name
    requests.put(subscription)

    def answer(responses: Iterator[DiscoveryResponse]) -> None:
        accepted = ""
        try:
            for response in responses:
                request = DiscoveryRequest(type_url=response.type_url)
                request.response_nonce = response.nonce
                if accept(response):
                    accepted = response.version_info
                else:
                    request.error_detail.message = "this node takes no poison"
                request.version_info = accepted
                requests.put(request)
        except grpc.RpcError:
            pass  # the block has ended

    with grpc.insecure_channel(address) as channel:
        stream = channel.stream_stream(
            ADS_STREAM, DiscoveryRequest.SerializeToString, DiscoveryResponse.FromString
        )
        call = stream(iter(requests.get, None))
        thread = threading.Thread(target=answer, args=(call,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            requests.put(None)
            call.cancel()
            thread.join(10)
