// Prints the rows of the sheet of requests as JSON, read by one of the libraries in tests/judges/node_modules.
import { createRequire } from "node:module";

const [library, file, sheet] = process.argv.slice(2);
const require = createRequire(new URL("../judges/package.json", import.meta.url));
const pad = (number) => String(number).padStart(2, "0");

// All libraries return local times of the workbook as dates in UTC.
function text(value) {
  if (value === null || value === undefined) return "";
  if (!(value instanceof Date)) return String(value);
  const seconds = new Date(Math.round(value.getTime() / 1000) * 1000);
  const day = [pad(seconds.getUTCDate()), pad(seconds.getUTCMonth() + 1), seconds.getUTCFullYear()].join(".");
  return `${day} ${[seconds.getUTCHours(), seconds.getUTCMinutes(), seconds.getUTCSeconds()].map(pad).join(":")}`;
}

const readers = {
  async exceljs() {
    const { Workbook } = require("exceljs");
    const rows = [];
    const page = (await new Workbook().xlsx.readFile(file)).getWorksheet(sheet);
    page.eachRow((row) => {
      const cells = [];
      for (let column = 1; column <= page.columnCount; column++) cells.push(text(row.getCell(column).value));
      rows.push(cells);
    });
    return rows;
  },
  xlsx() {
    const { readFile, utils } = require("xlsx");
    return utils.sheet_to_json(readFile(file).Sheets[sheet], { header: 1, raw: false, defval: "" });
  },
  async "read-excel-file"() {
    const { readSheet } = require("read-excel-file/node");
    return (await readSheet(file, sheet, { trim: false })).map((row) => row.map(text));
  },
  async "xlsx-populate"() {
    const populate = require("xlsx-populate");
    const rows = (await populate.fromFileAsync(file)).sheet(sheet).usedRange().value();
    const moment = (value) => (typeof value === "number" ? populate.numberToDate(value) : value);
    // numberToDate() returns a date in the local time zone, which the caller sets to UTC.
    return rows.map(([time, ...cells]) => [text(moment(time)), ...cells.map(text)]);
  },
};
process.stdout.write(JSON.stringify(await readers[library]()));
