"""One process's hand on the board."""

from __future__ import annotations

from smtpproxy.server.board import Board


class Tally:
    """Reads the sums of all processes, writes its own column only."""

    __slots__ = ("_board", "_column", "of_address", "total")

    def __init__(self, board: Board, column: int) -> None:
        self._board = board
        self._column = column
        self.total = board.total
        self.of_address = board.of_address

    @classmethod
    def alone(cls) -> Tally:
        """Of a process that has no others beside it."""
        board = Board()
        return cls(board, board.take())

    def beat(self) -> None:
        """Say that this process is alive."""
        self._board.beat(self._column)

    def enter(self, *names: str) -> None:
        """Count a connection in, under its address and whatever else it is counted under."""
        self._board.enter(self._column, names)

    def leave(self, *names: str) -> None:
        """Count it out."""
        self._board.leave(self._column, names)
