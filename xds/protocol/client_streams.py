"""Which streams belong to one client. Most clients have one, for all types (ADS)."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from xds.protocol.nodes import UNKNOWN, Node


def by_client(nodes: Iterable[Node]) -> list[list[Node]]:
    """The streams of each client, that of ADS first.

    The streams of single types of a node belong together, and to the node's stream of ADS: an Envoy
    also opens one when it misses a cluster. If several clients have the same id, nobody knows which
    of them a stream of a single type belongs to: these streams are then a client of their own.
    """
    aggregated: Mapping[str, list[list[Node]]] = defaultdict(list)
    separate: Mapping[str, list[Node]] = defaultdict(list)
    for node in nodes:
        if node.stream.aggregated or node.id == UNKNOWN:
            aggregated[node.id].append([node])
        else:
            separate[node.id].append(node)
    for name, streams in separate.items():
        clients = aggregated[name]
        if len(clients) == 1:
            clients[0].extend(streams)
        else:
            clients.append(streams)
    return [client for clients in aggregated.values() for client in clients]
