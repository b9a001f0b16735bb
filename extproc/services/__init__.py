"""The gRPC services of the callout. They use the interface in `extproc.rpc`, not a transport."""
