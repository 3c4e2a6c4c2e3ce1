"""A watch over the processes of one job, so that none waits for one that is gone.

A collective that a process never joins waits for minutes, or forever. So every process
holds a connection to the first one and sends a heartbeat once a second. A connection
that closes, or is silent for too long, ends all processes, with a message that names
the number and host of the missing one. JAX's own heartbeat notices this as well, but
later, and Python can neither read nor replace its report: it is the second safety net,
for networks that block this connection.
"""

import contextlib
import json
import os
import secrets
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

# All times are in seconds. Interval between heartbeats:
_BEAT = 1.0
# How long closed connections are tolerated once this process is done:
_LEAVING = 5.0
# How long processes that fail for the same cause have to say so and leave together, as
# JAX lets none leave before the others. One that fails alone then exits by force, which
# ends the others.
_FAILED = 8.0
_SAME_FAULT = 10.0

# Exit status if another process is gone: EX_TEMPFAIL, as starting again helps.
GONE = 75

_ADDRESS_BYTES = 512


class Watch:
  """This process's view of the others, kept up to date by a thread.

  It ends this process (exit status 75, or 2 after `failed`) when another one is gone.
  """

  def __init__(self, silence: float, advice: Callable[[], str]):
    """Starts to watch; to be called in every process, after JAX has connected them.

    Args:
      silence: seconds after which a silent process counts as gone.
      advice: returns the end of the message when a process is gone: what to do.
    """
    self._silence = silence
    self._advice = advice
    self._selector = selectors.DefaultSelector()
    self._peers: list[_Peer] = []
    self._verdict: tuple[str, float] | None = None  # With its time of execution.
    self._status = GONE
    self._leaving = False
    self._leave_at = float("inf")
    self._token = ""

  def start(self, address: str | None = None) -> None:
    """Connects the processes and starts the thread.

    Args:
      address: address at which the others reach the first process; None finds one.
    """
    first = jax.process_index() == 0
    listener = None
    where: dict[str, Any] = {}
    if first:
      listener = _listen()
      where = {
        "host": address or _own_address(),
        "port": listener.getsockname()[1],
        "token": secrets.token_hex(8),
      }
    where = _from_first(where)
    self._token = where["token"]
    if listener is not None:
      self._selector.register(listener, selectors.EVENT_READ)
    else:
      try:
        connection = socket.create_connection((where["host"], where["port"]), 10)
      except OSError as error:
        print(
          f"vdm-jax: no connection to process 0 at {where['host']}:{where['port']} "
          f"({error}): only JAX's heartbeat will tell when a process is gone",
          file=sys.stderr,
        )
      else:
        peer = self._add(connection)
        peer.number, peer.host = 0, where["host"]
        me = [self._token, jax.process_index(), socket.gethostname()]
        self._send(peer, {"hello": me})
    threading.Thread(target=self._run, name="watch", daemon=True).start()

  def done(self) -> None:
    """Expects the others to leave from now on; they may still be working."""
    self._leaving = True

  def failed(self, reason: str) -> None:
    """Tells the others why this process ends, and waits a little for them to end, too.

    Args:
      reason: text that the others print.
    """
    self._status = 2
    self._leaving = True
    self._leave_at = time.monotonic() + _FAILED
    for peer in list(self._peers):
      self._send(peer, {"failed": " ".join(reason.split())[:300]})

  def _run(self):
    beat = 0.0
    while True:
      for key, _ in self._selector.select(_BEAT):
        if key.data is None:
          with contextlib.suppress(OSError):
            self._add(key.fileobj.accept()[0])
        else:
          self._read(key.data)
      now = time.monotonic()
      if now - beat >= _BEAT:
        beat = now
        for peer in list(self._peers):
          self._send(peer, None)
      # Judged after reading, so that a process that was suspended reads what was sent.
      for peer in list(self._peers):
        if now - peer.heard > self._silence:
          self._gone(peer, f"has said nothing for {self._silence:g} s: it hangs, or "
                     "its host is out of reach")  # fmt: skip
      if self._verdict is not None and now >= self._verdict[1]:
        self._end(self._verdict[0])
      if now >= self._leave_at:
        os._exit(self._status)

  def _add(self, connection):
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer = _Peer(connection)
    self._peers.append(peer)
    self._selector.register(connection, selectors.EVENT_READ, peer)
    return peer

  def _send(self, peer, message):
    line = b"" if message is None else json.dumps(message).encode()
    # A connection closed at the other end is noticed while reading.
    with contextlib.suppress(OSError):
      peer.connection.send(line + b"\n")

  def _read(self, peer):
    try:
      data = peer.connection.recv(1 << 16)
    except BlockingIOError:
      return
    except OSError:
      data = b""
    peer.heard = time.monotonic()
    peer.unread += data
    *lines, peer.unread = peer.unread.split(b"\n")
    for line in filter(None, lines):
      if not self._understand(peer, line):
        return
    if not data:
      self._gone(peer, "died: its connection is closed")

  def _understand(self, peer, line):
    """Acts on a message; returns False if its sender is not of this job."""
    try:
      message = json.loads(line)
      if "hello" in message:
        token, peer.number, peer.host = message["hello"]
        if token != self._token:
          peer.number = None
      known = peer.number is not None  # What others say means nothing.
      if known and "failed" in message:
        peer.words = str(message["failed"])
        self._judge(self._about(peer, ""), _SAME_FAULT)
      if known and "gone" in message:
        self._judge(str(message["gone"]), 0.0)
    except (ValueError, TypeError, KeyError):
      peer.number = None
    if peer.number is None:
      self._drop(peer)
    return peer.number is not None

  def _gone(self, peer, why):
    self._drop(peer)
    if peer.number is None:  # It never introduced itself.
      return
    about = self._about(peer, why)
    for other in self._peers:
      self._send(other, {"gone": about})
    self._judge(about, 0.0)

  def _about(self, peer, why):
    why = f"failed: {peer.words}" if peer.words else why
    return f"process {peer.number} ({peer.host}) {why}"

  def _drop(self, peer):
    self._peers.remove(peer)
    self._selector.unregister(peer.connection)
    peer.connection.close()

  def _judge(self, about, grace):
    at = time.monotonic() + max(grace, _LEAVING * self._leaving)
    if self._verdict is None:
      self._verdict = about, at
    else:
      self._verdict = self._verdict[0], min(self._verdict[1], at)

  def _end(self, about):
    if self._status == GONE:  # Else this process has reported its own error.
      advice = ""
      with contextlib.suppress(Exception):  # The disk may be gone, too.
        advice = self._advice()
      text = (
        f"\nvdm-jax: error: {about}. Process {jax.process_index()} cannot go on "
        f"without it and ends. {advice}\n"
      )
      # Not `print`: other threads may hold its lock and never release it.
      os.write(2, text.encode())
    os._exit(self._status)


class _Peer:
  """A process at the other end of a connection, unknown until it introduces itself."""

  def __init__(self, connection):
    self.connection = connection
    self.number = None
    self.host = ""
    self.words = ""  # Its reason for failing, once it fails.
    self.unread = b""
    self.heard = time.monotonic()


def _listen() -> socket.socket:
  """Listens on a free port, over IPv4 and IPv6 if both exist."""
  if socket.has_dualstack_ipv6():
    with contextlib.suppress(OSError):
      return socket.create_server(
        ("", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024
      )
  return socket.create_server(("", 0), backlog=1024)


def _own_address() -> str:
  """Finds the address from which this host reaches others, without sending anything."""
  with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
    with contextlib.suppress(OSError):
      probe.connect(("192.0.2.1", 9))  # A network reserved for documentation.
      return probe.getsockname()[0]
  return socket.gethostname()


def _from_first(facts: Any) -> Any:
  """Brings a JSON-serialisable value of the first process to all processes."""
  text = json.dumps(facts).encode()
  padded = np.frombuffer(text.ljust(_ADDRESS_BYTES), np.uint8)
  found = np.asarray(multihost_utils.broadcast_one_to_all(padded))
  return json.loads(found.astype(np.uint8).tobytes().decode())
