"""A workbook of attempts, written as XlsxWriter documents it.

Rows come from a server-side cursor; constant_memory is on.
"""

import time
from tempfile import TemporaryFile

import psycopg2
from xlsxwriter import Workbook

from bench.references.postgres import COLUMNS

BATCH = 5000


def write_s(url: str, rows: int) -> float:
    """Write all export columns of the oldest `rows` attempts; return the seconds."""
    began = time.perf_counter()
    connection = psycopg2.connect(url)
    with TemporaryFile() as file, connection, connection.cursor("rows") as cursor:
        cursor.itersize = BATCH
        cursor.execute(f"select {COLUMNS} from attempts order by id limit {rows}")
        workbook = Workbook(file, {"constant_memory": True, "remove_timezone": True})
        moment = workbook.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        sheet = workbook.add_worksheet()
        for line, (attempt_id, received_at, *values) in enumerate(cursor):
            sheet.write_string(line, 0, attempt_id)
            sheet.write_datetime(line, 1, received_at, moment)
            for column, value in enumerate(values, start=2):
                sheet.write(line, column, value)
        workbook.close()
    connection.close()
    return time.perf_counter() - began
