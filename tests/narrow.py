"""VGGish with a fraction of its 72 million weights, for the tests of what is done with its rows."""

import functools

import pytest

from tfvc.backbones import vggish


@pytest.fixture(scope="module")
def narrow_vggish():
    """Random ones are narrow, with rows as wide as ever: each command draws one, each export holds one."""
    with pytest.MonkeyPatch.context() as patch:
        narrow = functools.partial(vggish.build_model, widths=(4, 8, 16, 512), dense=8)
        patch.setattr(vggish, "build_model", narrow)
        yield
