"""A workbook of attempts the documented way: rows from a server-side cursor into XlsxWriter's constant_memory."""

import time
from tempfile import TemporaryFile

import psycopg2
from xlsxwriter import Workbook

from bench.references.postgres import COLUMNS

BATCH = 5000


def write_s(url: str, rows: int) -> float:
    """Return the seconds that the oldest `rows` attempts take, all columns of an export, into one sheet."""
    began = time.perf_counter()
    connection = psycopg2.connect(url)
    with TemporaryFile() as file, connection, connection.cursor("rows") as cursor:
        cursor.itersize = BATCH
        cursor.execute(f"select {COLUMNS} from attempts order by id limit {rows}")
        workbook = Workbook(file, {"constant_memory": True, "remove_timezone": True})
        moment = workbook.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        sheet = workbook.add_worksheet()
        for line, (number, received_at, *values) in enumerate(cursor):
            sheet.write_string(line, 0, number)
            sheet.write_datetime(line, 1, received_at, moment)
            for column, value in enumerate(values, start=2):
                sheet.write(line, column, value)
        workbook.close()
    connection.close()
    return time.perf_counter() - began
