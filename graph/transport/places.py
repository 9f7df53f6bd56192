"""Who holds a WebSocket: of each client those who are signed out, of each viewer those who are signed in."""

from collections import Counter
from collections.abc import Iterable
from typing import Protocol


class Holder(Protocol):
    """A WebSocket that holds a place."""

    @property
    def silent(self) -> bool:
        """Whether nothing is asked for on it."""
        ...

    def give_way(self) -> None:
        """Close: its place is another's."""
        ...


class Places:
    """The places of one process.

    Who is signed out has one as long as nobody else needs it: the oldest gives way, those first on which nothing is
    asked for. So sockets that are nobody's keep out neither others of their address nor anybody else.
    """

    def __init__(self, total: int, *, per_client: int, per_viewer: int) -> None:
        self._total, self._per_client, self._per_viewer = total, per_client, per_viewer
        self._signed_out: dict[Holder, str] = {}
        self._of_client: dict[str, dict[Holder, None]] = {}
        self._signed_in: dict[Holder, str] = {}
        self._of_viewer: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._signed_out) + len(self._signed_in)

    def take(self, holder: Holder, client: str) -> bool:
        """A place for who is not signed in yet. False when all are held by who is."""
        if len(self._of_client.get(client, ())) >= self._per_client:
            self._free_one_of(self._of_client[client])
        if len(self) >= self._total and not self._free_one_of(self._signed_out):
            return False
        self._signed_out[holder] = client
        self._of_client.setdefault(client, {})[holder] = None
        return True

    def sign_in(self, holder: Holder, viewer: str) -> bool:
        """Keep the place as a viewer's. False when the viewer has as many as one may."""
        if holder in self._signed_out:
            if self._of_viewer[viewer] >= self._per_viewer:
                return False
            self.leave(holder)
            self._signed_in[holder] = viewer
            self._of_viewer[viewer] += 1
        return True

    def leave(self, holder: Holder) -> None:
        """Give back the place, if there still is one."""
        client = self._signed_out.pop(holder, None)
        if client is not None:
            own = self._of_client[client]
            del own[holder]
            if not own:
                del self._of_client[client]
        viewer = self._signed_in.pop(holder, None)
        if viewer is not None:
            self._of_viewer[viewer] -= 1
            if not self._of_viewer[viewer]:
                del self._of_viewer[viewer]

    def _free_one_of(self, holders: Iterable[Holder]) -> bool:
        oldest = None
        for holder in holders:
            if holder.silent:
                oldest = holder
                break
            oldest = oldest or holder
        if oldest is None:
            return False
        self.leave(oldest)
        oldest.give_way()
        return True
