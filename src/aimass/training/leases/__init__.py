"""Who trains on what: leases, rounds and parts of rounds, and the rows that they stand for."""
