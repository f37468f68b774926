"""What the members of a group meet by. It is apart from fates, since workers without a group would import torch.distributed for it."""

from aimass.training.replicas.addresses import AddressStore


class FatedStore(AddressStore):
    """Where a group's members leave their addresses: the moment "address" is after one has."""

    def __init__(self, server, *arguments):
        super().__init__(server, *arguments)
        self._fate = server.fate

    def set(self, key, value):
        super().set(key, value)
        self._fate.reached("address")
