"""The xDS protocol: resource types, snapshots, subscriptions, nodes and the gRPC server."""
