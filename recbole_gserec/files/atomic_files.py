"""Fast, strict reading of RecBole's atomic files: tab-separated columns with a ``field:type`` header."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from recbole_gserec.errors import DataError

TYPES = ("token", "token_seq", "float", "float_seq")
_MISSING_NUMBERS = frozenset(pyarrow.csv.ConvertOptions().null_values)


def field_types(path: str | Path, *, separator: str = "\t", encoding: str = "utf-8") -> dict[str, str]:
    """Read the header of an atomic file.

    Returns:
        Field names in the order of the columns, mapped to ``token``, ``token_seq``, ``float`` or ``float_seq``.

    Raises:
        DataError: If the file is missing or its first line is not a ``field:type`` header.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(path, "file not found", "Check the dataset's name and data_path.")
    # Python decodes ahead of the returned line, so a strict decoder would report an error of a later line for the
    # header.
    with open(path, encoding=encoding, errors="replace") as file:
        header = file.readline().rstrip("\r\n")
    if "\ufffd" in header:
        raise DataError(path, f"not text in {encoding}", "Save it in this encoding, or set 'encoding'.", line=1)
    types = {}
    for column in header.lstrip("\ufeff").split(separator):
        name, _, kind = column.rpartition(":")
        if not name or ":" in name or kind not in TYPES:
            raise DataError(
                path,
                f"'{column}' is not a 'field:type' header",
                f"Name each column like 'user_id:token', with one tab between columns; types are {', '.join(TYPES)}.",
                line=1,
            )
        if name in types:
            raise DataError(path, f"two columns are named '{name}'", "Give each column a unique name.", line=1)
        types[name] = kind
    return types


def read_columns(
    path: str | Path,
    fields: Sequence[str] | None = None,
    *,
    separator: str = "\t",
    encoding: str = "utf-8",
    required: Sequence[str] = (),
) -> pa.Table:
    """Read columns of an atomic file.

    Args:
        path: The file.
        fields: Names of the columns to read, without their types; all by default.
        separator: Separator between columns.
        encoding: Encoding of the text.
        required: Fields without missing values: no empty token, no missing or infinite number.

    Returns:
        A table whose column names have no type. ``float`` columns are ``float64`` (null if missing), and all others
        contain the raw text of the cells.

    Raises:
        DataError: If the file, a column or a value is missing or malformed; it names the line.
    """
    types = field_types(path, separator=separator, encoding=encoding)
    fields = list(types) if fields is None else list(fields)
    missing = [field for field in fields if field not in types]
    if missing:
        found = ", ".join(types)
        raise DataError(path, f"no column '{missing[0]}'", f"The header has: {found}.", line=1)
    schema = {field: pa.float64() if kind == "float" else pa.string() for field, kind in types.items()}
    try:
        table = pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(column_names=list(types), skip_rows=1, encoding=encoding),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=separator, quote_char=False, double_quote=False, escape_char=False
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=schema, include_columns=fields, strings_can_be_null=False
            ),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        if has_no_rows(path, encoding):
            return pa.table({field: pa.array([], schema[field]) for field in fields})
        raise _located(path, types, separator, encoding, error) from error
    for field in required:
        _check_complete(path, field, table[field], encoding)
    return table


def _check_complete(path: str | Path, field: str, column: pa.ChunkedArray, encoding: str) -> None:
    """Raise DataError if a value is missing, or a number is missing or infinite."""
    if pa.types.is_floating(column.type):
        bad = pc.invert(pc.fill_null(pc.is_finite(column), False))
        problem, advice = f"{field} is missing or not a finite number", "Give every row a number."
    else:
        bad = pc.equal(column, "")
        problem, advice = f"{field} is empty", "Give every row a value."
    rows = np.flatnonzero(np.asarray(bad))
    if len(rows):
        more = f" ({len(rows):,} rows in all)" if len(rows) > 1 else ""
        raise DataError(path, problem + more, advice, line=line_of_row(path, int(rows[0]), encoding))


def line_of_row(path: str | Path, row: int, encoding: str = "utf-8") -> int:
    """Return the 1-based line of the 0-based data row ``row``: the reader skips empty lines."""
    for index, (line, _) in enumerate(_data_lines(path, encoding)):
        if index == row:
            return line
    raise IndexError(row)


def _data_lines(path: str | Path, encoding: str) -> Iterator[tuple[int, str]]:
    with open(path, encoding=encoding, errors="replace") as file:
        for line, text in enumerate(file, start=1):
            text = text.rstrip("\r\n")
            if line > 1 and text:
                yield line, text


def has_no_rows(path: str | Path, encoding: str) -> bool:
    """Return whether a file has a header and no rows."""
    return next(_data_lines(path, encoding), None) is None


def _located(path: str | Path, types: dict[str, str], separator: str, encoding: str, error: Exception) -> DataError:
    """Find the line where the fast reader failed; its own message counts blocks instead of lines."""
    # A file may itself contain the character that replaces undecodable bytes.
    is_undecodable = isinstance(error, UnicodeDecodeError) or "UTF8" in str(error)
    for line, text in _data_lines(path, encoding):
        cells = text.split(separator)
        if len(cells) != len(types):
            return DataError(
                path, f"{len(cells)} columns instead of {len(types)}", "Separate columns by one tab each.", line=line
            )
        if is_undecodable and "\ufffd" in text:
            return DataError(path, f"not text in {encoding}", "Save it in this encoding, or set 'encoding'.", line=line)
        for (field, kind), cell in zip(types.items(), cells, strict=True):
            if kind == "float" and not _is_number(cell):
                return DataError(path, f"{field} is '{cell}', not a number", "Give every row a number.", line=line)
    return DataError(path, str(error).splitlines()[0], "Check the file's format.")


def sequences_of_numbers(path: str | Path, field: str, cells: list[np.ndarray], encoding: str) -> list[np.ndarray]:
    """Convert the tokens in each row's cell to numbers.

    Args:
        path: The file, for error messages.
        field: The column.
        cells: One array of tokens for each row.
        encoding: Of the file.

    Raises:
        DataError: If a token is not a number.
    """
    numbers = []
    for row, cell in enumerate(cells):
        try:
            numbers.append(cell.astype(np.float64))
        except ValueError as error:
            problem, line = f"{field} is '{' '.join(cell)}', not numbers", line_of_row(path, row, encoding)
            raise DataError(path, problem, "Give numbers, separated as seq_separator says.", line=line) from error
    return numbers


def _is_number(cell: str) -> bool:
    if cell in _MISSING_NUMBERS:
        return True
    try:
        float(cell)
    except ValueError:
        return False
    # Python's numbers may contain underscores and digits of any script, but those of the fast reader may not.
    return cell.isascii() and "_" not in cell
