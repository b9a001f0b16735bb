"""Which worker runs a stream: each has one of all workers of all replicas, by its name. Pure."""

from dataclasses import dataclass

from video.streams.placement import worker_of


@dataclass(frozen=True, slots=True)
class Shard:
    """This replica is number `index` of `count` replicas with the same number of workers."""

    index: int = 0
    count: int = 1


@dataclass(frozen=True, slots=True)
class Assignment:
    """The place of one worker: number `worker` of the `workers` of its replica."""

    worker: int = 0
    workers: int = 1
    shard: Shard = Shard()

    def place_of(self, stream: str) -> tuple[int, int]:
        """The replica and the worker in it that run a stream."""
        return divmod(worker_of(stream, self.shard.count * self.workers), self.workers)

    def has(self, stream: str) -> bool:
        """Whether this worker runs a stream."""
        return self.place_of(stream) == (self.shard.index, self.worker)
