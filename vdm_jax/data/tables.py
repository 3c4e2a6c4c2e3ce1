"""Strict reading of texts that users edit, with errors that name the line."""

import csv
import io
from collections.abc import Iterator

from etils import epath

from vdm_jax.errors import UserError


def read_text(path: epath.Path) -> str:
  """Reads a text file, with or without a byte-order mark.

  Raises:
    UserError: the file is not UTF-8; the message names the line.
  """
  data = path.read_bytes()
  try:
    return data.decode("utf-8-sig")
  except UnicodeDecodeError as error:
    # It counts from the end of the byte-order mark.
    start = len(data) - len(error.object) + error.start
    line = data[:start].count(b"\n") + 1
    raise UserError(
      f"{path}, line {line}: expected UTF-8, found the byte 0x{data[start]:02x}; save "
      "the file as UTF-8"
    ) from error


def read_csv(path: epath.Path, *columns: str) -> Iterator[list[str]]:
  """Yields the values of some columns, row by row, without surrounding space.

  Raises:
    UserError: the file is not UTF-8, lacks a column, or a line has other fields than
      the first one; the message names the line.
  """
  reader = csv.reader(io.StringIO(read_text(path)), strict=True)
  header: list[str] = []
  try:
    for row in reader:
      if not header:
        header = [field.strip() for field in row]
        if not set(columns) <= set(header):
          break
      elif row and len(row) != len(header):
        raise UserError(
          f"{path}, line {reader.line_num}: expected {len(header)} fields "
          f"({','.join(header)}), found {len(row)}; a value with a comma wants quotes "
          "around it"
        )
      elif row:
        yield [row[header.index(column)].strip() for column in columns]
  except csv.Error as error:
    raise UserError(
      f"{path}, line {reader.line_num}: not readable as CSV ({error}); every quote "
      "wants its partner"
    ) from error
  if not set(columns) <= set(header):
    raise UserError(
      f"{path}: expected the columns {','.join(columns)} in the first line, found"
      f" {','.join(header)!r}"
    )
