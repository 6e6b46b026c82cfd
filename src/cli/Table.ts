/**
 * Aligned tables, measured in terminal cells (a wide character counts two, a combining one none). Cells are safe text:
 * the table itself puts everything through `Visible`. Where the terminal is too narrow only columns marked `flexible`
 * shrink; ids are never cut.
 */
import * as CliOutput from "effect/cli/CliOutput"
import type { Paint } from "./Style.ts"
import * as Visible from "./Visible.ts"

/** One column: its title, its text for a row, and how it looks. */
export interface Column<Row> {
  readonly title: string
  /** Undefined is shown as `-`. */
  readonly cell: (row: Row) => string | number | undefined
  readonly align?: "left" | "right"
  /** May be cut to fit the terminal. */
  readonly flexible?: boolean
  /** Colour of the cell. */
  readonly paint?: (row: Row) => Paint | undefined
}

/** Width and colours of where the table goes; without a width nothing is cut. */
export interface Look {
  readonly width: number | undefined
  readonly heading: Paint
}

const gap = "  "
const narrowest = 10

const shrink = (widths: Array<number>, flexible: ReadonlyArray<boolean>, available: number) => {
  const total = () => widths.reduce((sum, width) => sum + width, 0)
  for (let over = total() - available; over > 0; over = total() - available) {
    let widest = -1
    for (const [i, width] of widths.entries()) {
      if (flexible[i] === true && width > narrowest && (widest < 0 || width > widths[widest]!)) widest = i
    }
    if (widest < 0) return
    widths[widest] = Math.max(narrowest, widths[widest]! - over)
  }
}

/** The table, one string per line, headings first, without trailing blanks. */
export const render = <Row>(
  columns: ReadonlyArray<Column<Row>>,
  rows: ReadonlyArray<Row>,
  look: Look
): ReadonlyArray<string> => {
  const texts = rows.map((row) =>
    columns.map((column) => {
      const value = column.cell(row)
      return value === undefined || value === "" ? "-" : Visible.line(String(value))
    })
  )
  const widths = columns.map((column, i) =>
    texts.reduce((width, row) => Math.max(width, CliOutput.displayWidth(row[i]!)), CliOutput.displayWidth(column.title))
  )
  if (look.width !== undefined) {
    const available = look.width - gap.length * (columns.length - 1)
    shrink(
      widths,
      columns.map((column) => column.flexible === true),
      available
    )
  }
  const draw = (cells: ReadonlyArray<string>, paint: (i: number) => Paint | undefined) =>
    cells
      .map((cell, i) => {
        const text = columns[i]!.flexible === true ? Visible.fit(cell, widths[i]!) : cell
        const blanks = " ".repeat(Math.max(0, widths[i]! - CliOutput.displayWidth(text)))
        const painted = paint(i)?.(text) ?? text
        if (columns[i]!.align === "right") return blanks + painted
        return i === cells.length - 1 ? painted : painted + blanks
      })
      .join(gap)
  return [
    draw(
      columns.map((column) => column.title),
      () => look.heading
    ),
    ...texts.map((cells, row) => draw(cells, (i) => columns[i]!.paint?.(rows[row]!)))
  ]
}

/** Names and values below each other, for one thing in detail. Values may have several lines. */
export const details = (
  pairs: ReadonlyArray<readonly [name: string, value: string | undefined, paint?: Paint | undefined]>,
  heading: Paint
): ReadonlyArray<string> => {
  const shown = pairs.filter(([, value]) => value !== undefined)
  const width = shown.reduce((most, [name]) => Math.max(most, CliOutput.displayWidth(name)), 0)
  return shown.flatMap(([name, value, paint]) => {
    const [first = "", ...more] = Visible.lines(value!)
    const color = paint ?? ((text: string) => text)
    const blanks = " ".repeat(width - CliOutput.displayWidth(name))
    return [
      `${heading(name)}${blanks}${gap}${color(first)}`,
      ...more.map((text) => " ".repeat(width) + gap + color(text))
    ]
  })
}
