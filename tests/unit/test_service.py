"""What ends a call holds nothing of it afterwards: not the windows, not the calls of others."""

import gc
import weakref

import pytest

from candlecast.errors import DeadlineExceeded
from candlecast.server.service import _told


class Call:
    def __init__(self):
        self.failures = []

    def fail(self, error):
        self.failures.append(repr(error))


@pytest.mark.parametrize("when", ["told", "while it is filled"])
def test_an_error_that_others_have_too_holds_no_call(when):
    error = DeadlineExceeded("no answer")

    def fill(answer):
        raise answer

    gc.disable()
    try:
        call = Call()
        held = weakref.ref(call)
        if when == "told":
            _told(call, fill)(error)
        else:
            _told(call, lambda answer: fill(error))(object())
        assert call.failures == [repr(error)]
        del call
        assert held() is None
    finally:
        gc.enable()
