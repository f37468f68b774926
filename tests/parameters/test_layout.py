from hypothesis import given
from hypothesis import strategies as st

from aimass.parameters.layout import Layout


@given(
    num_parameters=st.integers(1, 5000),
    cut=st.floats(0, 1),
    shard_size=st.integers(1, 900),
    chunk_size=st.integers(1, 300),
    num_slots=st.integers(1, 5),
    num_states=st.integers(0, 3),
    replicates=st.booleans(),
    num_servers=st.integers(0, 40),
    keeps_pulled=st.booleans(),
)
def test_chunks_cover_p_once_and_no_two_regions_meet(
    num_parameters, cut, shard_size, chunk_size, num_slots, num_states, replicates, num_servers, keeps_pulled
):
    boundary = int(num_parameters * cut)
    groups = tuple((a, b) for a, b in ((0, boundary), (boundary, num_parameters)) if a < b)
    layout = Layout(
        num_parameters=num_parameters,
        groups=groups,
        states=tuple("abc"[:num_states]),
        num_slots=num_slots,
        num_buffers=3,
        shard_size=shard_size,
        chunk_size=chunk_size,
        num_replicas=num_slots if replicates else 1,
        num_extras=2 if replicates else 0,
        note_bytes=100 if replicates else 0,
        num_servers=min(num_servers, num_parameters),
        keeps_pulled=keeps_pulled,
    )
    at = 0
    for shard in range(layout.num_shards):
        for start, stop, group in layout.chunks(shard):
            assert start == at
            assert 0 < stop - start <= chunk_size
            assert groups[group][0] <= start < stop <= groups[group][1]
            at = stop
    assert at == num_parameters

    vector, undo = 4 * num_parameters, 4 * layout.undo_size
    regions = [(0, 8 * layout.num_words)]
    regions += [(layout.vector_offset(i, replica), vector) for i in range(1 + num_states) for replica in range(layout.num_replicas)]
    regions += [(layout.gradient_offset(slot), vector + 4 * layout.num_extras) for slot in range(num_slots)]
    regions += [(layout.pulled_offset(slot), vector) for slot in range(num_slots) if keeps_pulled]
    regions += [(layout.undo_offset(slot, row), undo) for slot in range(num_slots) for row in range(1 + num_states)]
    regions += [(layout.buffers_offset(slot), 12) for slot in range(num_slots)]
    regions += [(layout.note_offset(slot), layout.note_bytes) for slot in range(num_slots)]
    regions.sort()
    ends = [start + size for start, size in regions]
    assert all(end <= start for end, (start, _) in zip(ends, regions[1:], strict=False))
    assert ends[-1] <= layout.size_bytes


@given(num_parameters=st.integers(1, 3_000_000), num_servers=st.integers(1, 300))
def test_servers_have_about_the_same_share_and_never_none(num_parameters, num_servers):
    num_servers = min(num_servers, num_parameters)
    layout = Layout(num_parameters=num_parameters, groups=((0, num_parameters),), num_servers=num_servers)
    assert layout.num_shards == num_servers
    shares = [stop - start for start, stop in map(layout.shard, range(num_servers))]
    assert sum(shares) == num_parameters
    fair = num_parameters / num_servers
    assert min(shares) > 0
    assert max(shares) <= 2 * fair + 1
    if fair >= 2048:
        assert all(layout.shard(index)[0] % 1024 == 0 for index in range(num_servers))
