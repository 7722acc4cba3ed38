"""The callback that sends results to a server."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
import warnings
from collections.abc import Mapping
from typing import Any

from hornbeam.core.registry import public
from hornbeam.training.callbacks.callback import Callback


@public("keras.callbacks.RemoteMonitor")
class RemoteMonitor(Callback):
    """Sends the results of every epoch to a server, by HTTP POST. Where it does not answer, a warning says so.

    Args:
        root: the server's address.
        path: the path that is posted to.
        field: the form field that holds the JSON text.
        headers: HTTP headers.
        send_as_json: whether the body is JSON itself (`application/json`) instead of a form.
        timeout: seconds that an answer is waited for.

    >>> RemoteMonitor("https://example.org", path="/log").url
    'https://example.org/log'
    """

    state_names = ()

    def __init__(
        self, root: str = "http://localhost:9000", path: str = "/publish/epoch/end/", field: str = "data",
        headers: Mapping[str, str] | None = None, send_as_json: bool = False, timeout: float = 5.0,
    ) -> None:  # fmt: skip
        self.root, self.path, self.field, self.headers, self.send_as_json = root, path, field, headers, send_as_json
        self.timeout = timeout
        if urllib.parse.urlsplit(root).scheme not in ("http", "https"):
            raise ValueError(f"RemoteMonitor: `root` must begin with http:// or https://. Received: {root!r}")

    @property
    def url(self) -> str:
        """The address that is posted to."""
        return self.root + self.path

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        text = json.dumps({"epoch": epoch, **{k: _plain(v) for k, v in (logs or {}).items()}})
        kind = "application/json" if self.send_as_json else "application/x-www-form-urlencoded"
        body = text if self.send_as_json else urllib.parse.urlencode({self.field: text})
        request = urllib.request.Request(self.url, body.encode(), {"Content-Type": kind, **(self.headers or {})}, method="POST")
        try:
            urllib.request.urlopen(request, timeout=self.timeout).close()
        except (OSError, ValueError) as error:  # URLError, timeouts and refusals are OSErrors
            warnings.warn(f"RemoteMonitor could not reach {self.root}: {error}", stacklevel=2)


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value
