"""A model for mlserver: finds the nearest of two centroids for each row of a batch."""

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

CENTROIDS = np.array([[0, 0, 0, 0], [1, 1, 1, 1]], np.float32)
NAMES = ("low", "high")


class Centroids(MLModel):
    """Input `rows` FP32 [-1, 4]; outputs `distances` FP32 [-1, 2] and `nearest` BYTES [-1]."""

    async def load(self) -> bool:
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        (tensor,) = payload.inputs
        rows = NumpyCodec.decode_input(tensor)
        distances = np.linalg.norm(rows[:, None, :] - CENTROIDS, axis=2).astype(np.float32)
        nearest = [NAMES[index] for index in distances.argmin(axis=1)]
        return InferenceResponse(
            model_name=self.name,
            outputs=[
                NumpyCodec.encode_output("distances", distances),
                StringCodec.encode_output("nearest", nearest),
            ],
        )
