"""An example model server for the Open Inference Protocol V2 over REST and gRPC."""
