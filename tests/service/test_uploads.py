import asyncio
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from aimass.core.errors import TooLarge, UsageError
from aimass.service.uploads import receive_form
from aimass.store.blobs import Blobs

BOUNDARY = "edge"


class Sent:
    """A request whose body comes in pieces."""

    def __init__(self, *pieces, kind=f"multipart/form-data; boundary={BOUNDARY}"):
        self.headers = {"content-type": kind}
        self._pieces = pieces

    async def stream(self):
        for piece in self._pieces:
            yield piece


def form(content, purpose=b"user_data"):
    return b"".join(
        [
            b'--edge\r\ncontent-disposition: form-data; name="purpose"\r\n\r\n%b\r\n' % purpose,
            b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\ncontent-type: text/csv\r\n\r\n%b\r\n' % content,
            b"--edge--\r\n",
        ]
    )


def receive(blobs, request, limit_bytes=10**6):
    return asyncio.run(receive_form(request, blobs, limit_bytes))


def left_behind(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


@settings(max_examples=25, deadline=None)
@given(content=st.binary(max_size=300) | st.just(b"\r\n--edg\r\n--ed"), cuts=st.lists(st.integers(0, 600), max_size=5))
def test_a_form_may_come_in_any_pieces(tmp_path_factory, content, cuts):
    if b"\r\n--edge" in content:
        return
    whole = form(content)
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    pieces = [whole[start:end] for start, end in pairwise(places)]
    blobs = Blobs(str(tmp_path_factory.mktemp("blobs")))
    received = receive(blobs, Sent(*pieces))
    label, blob = received.file()
    assert (label, received.fields) == ("a.csv", {"purpose": "user_data"})
    with blobs.open(blob.sha256) as stream:
        assert stream.read() == content


@pytest.mark.parametrize(
    ("pieces", "error", "said"),
    [
        ((form(b"x" * 100)[:-20],), UsageError, "ended early"),
        ((b"nonsense",), UsageError, "damaged"),
        ((b"",), UsageError, "ended early"),
        ((form(b"x" * 2000),), TooLarge, "1,000 bytes"),
        ((form(b"x", purpose=b"y" * 70_000),), TooLarge, "fields"),
        ((b'--edge\r\ncontent-disposition: form-data; name="a"\r\n\r\n\r\n' * 200,), TooLarge, "100 parts"),
    ],
)
def test_what_is_off_is_said_and_leaves_nothing_behind(tmp_path, pieces, error, said):
    with pytest.raises(error, match=said):
        receive(Blobs(str(tmp_path)), Sent(*pieces), limit_bytes=1000)
    assert left_behind(tmp_path) == []


def test_a_client_that_goes_leaves_nothing_behind(tmp_path):
    class Gone(Sent):
        async def stream(self):
            yield form(b"x" * 3_000_000)[:2_500_000]
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        receive(Blobs(str(tmp_path)), Gone(), limit_bytes=10**8)
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data", "multipart/mixed; boundary=edge", ""])
def test_another_type_than_a_form_is_415(tmp_path, kind):
    with pytest.raises(HTTPException) as raised:
        receive(Blobs(str(tmp_path)), Sent(form(b"x"), kind=kind))
    assert raised.value.status_code == 415
