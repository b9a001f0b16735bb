"""A small model server that speaks the Open Inference Protocol V2 over REST and gRPC."""
