"""The gRPC services of the callout; they speak `extproc.rpc` and know no transport."""
