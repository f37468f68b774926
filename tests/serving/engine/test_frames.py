import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aimass.core.errors import DataError, TooLarge
from aimass.serving import frames
from aimass.serving.frames import MAX_FRAME_BYTES, Ask, FrameReader, Reply, frame

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
IDS = st.integers(0, 2**63)
ASKS = st.builds(Ask, IDS, st.sampled_from(["answer", "load", "unload", "stats"]), st.text(max_size=40), st.text(max_size=8), IDS)
REPLIES = st.builds(Reply, IDS, st.integers(100, 599), IDS, IDS, IDS, IDS, IDS)


@UNHURRIED
@given(st.lists(st.tuples(ASKS, st.binary(max_size=300)), max_size=6), st.data())
def test_frames_come_out_whole_however_the_bytes_are_split(sent, data):
    stream = b"".join(frame(header, body) for header, body in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    reader, found = FrameReader(Ask), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += reader.feed(stream[start:end])
    assert found == sent
    assert reader.waiting_bytes == 0


@UNHURRIED
@given(st.lists(st.tuples(REPLIES, st.binary(max_size=40)), max_size=3))
def test_frames_come_out_whole_byte_by_byte(sent):
    reader, found = FrameReader(Reply), []
    for byte in b"".join(frame(header, body) for header, body in sent):
        found += reader.feed(bytes([byte]))
    assert found == sent


@UNHURRIED
@given(st.binary(min_size=1, max_size=200))
def test_any_bytes_are_frames_unfinished_or_refused(noise):
    reader = FrameReader(Ask)
    try:
        for header, body in reader.feed(noise):
            assert isinstance(header, Ask)
            assert isinstance(body, bytes)
    except DataError:
        pass


@pytest.mark.parametrize("body", [b"a", bytearray(b"a"), memoryview(b"a")])
def test_a_body_may_be_any_bytes(body):
    assert FrameReader(Reply).feed(frame(Reply(1, 200), body)) == [(Reply(1, 200), b"a")]


def test_a_large_frame_in_many_pieces_is_put_together():
    body = bytes(range(256)) * 40_000
    stream = frame(Ask(1, "answer"), body) + frame(Ask(2, "stats"))
    reader, found = FrameReader(Ask), []
    for start in range(0, len(stream), 65_536):
        found += reader.feed(stream[start : start + 65_536])
    assert found == [(Ask(1, "answer"), body), (Ask(2, "stats"), b"")]


@pytest.mark.parametrize(
    "noise",
    [
        b"\xff\xff\xff\xff",
        struct.pack("<I", MAX_FRAME_BYTES + 1),
        struct.pack("<I", 0),
        struct.pack("<I", 1) + b"\0",
        struct.pack("<IH", 2, 0),
        struct.pack("<IH", 2, 9),
        struct.pack("<IH", 4, 2) + b"\xc1\xc1",
        struct.pack("<IH", 3, 1) + b"\x90",
        frame(Ask(1, "stats")).replace(b"stats", b"\xff\xff\xff\xff\xff"),
    ],
)
def test_what_is_no_frame_is_refused_at_once(noise):
    with pytest.raises(DataError, match="the connection ends"):
        FrameReader(Ask).feed(noise)
    reader = FrameReader(Ask)
    with pytest.raises(DataError, match="the connection ends"):
        for byte in noise:
            reader.feed(bytes([byte]))


def test_a_frame_that_is_too_large_is_not_sent(monkeypatch):
    monkeypatch.setattr(frames, "MAX_FRAME_BYTES", 100)
    assert frame(Ask(1, "answer"), bytes(50))
    with pytest.raises(TooLarge, match="send fewer rows"):
        frame(Ask(1, "answer"), bytes(100))
