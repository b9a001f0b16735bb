"""Reads bits of parameter sets (H.264 and H.265, clauses 7.2 and 9)."""

_MAX_ZEROS = 32


class BitsError(ValueError):
    """The data ends before the value, or the value is not valid."""


class BitReader:
    """Reads the payload of a NAL unit, without its emulation prevention bytes."""

    def __init__(self, payload: bytes) -> None:
        data = payload.replace(b"\0\0\3", b"\0\0")
        self._value = int.from_bytes(data)
        self._left = 8 * len(data)

    def bits(self, count: int) -> int:
        """An unsigned value of `count` bits: u(n)."""
        self._left -= count
        if self._left < 0:
            raise BitsError
        return (self._value >> self._left) & ((1 << count) - 1)

    def flag(self) -> bool:
        """One bit: u(1)."""
        return self.bits(1) == 1

    def unsigned(self) -> int:
        """An Exp-Golomb code: ue(v)."""
        zeros = 0
        while not self.bits(1):
            zeros += 1
            if zeros > _MAX_ZEROS:
                raise BitsError
        return (1 << zeros) - 1 + self.bits(zeros)

    def signed(self) -> int:
        """A signed Exp-Golomb code: se(v)."""
        code = self.unsigned()
        return (code + 1) // 2 if code & 1 else -(code // 2)
