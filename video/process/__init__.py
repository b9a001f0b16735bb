"""The processes of the video service: create the other parts and connect them."""
