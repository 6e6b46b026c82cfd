/**
 * Where and how a command writes: tables for people, JSON for machines, data to stdout and everything else to stderr.
 *
 * - `table`: aligned; cut to the terminal's width only when there is a terminal; colours only where they are wanted.
 * - `json`: one document, `{ "schemaVersion": 1, … }`. Instants are ISO 8601, lengths of time are milliseconds, what is
 *   unknown is `null`.
 * - `jsonl`: one line per row, for pipes.
 */
import * as TerminalCapabilities from "effect/cli/TerminalCapabilities"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Stdio from "effect/Stdio"
import * as Terminal from "effect/Terminal"
import * as Style from "./Style.ts"
import * as Table from "./Table.ts"
import * as Visible from "./Visible.ts"

export type Format = "table" | "json" | "jsonl"

/** `-o`, for every command that shows data. */
export const flag = Flag.Literals("output", ["table", "json", "jsonl"]).pipe(
  Flag.withAlias("o"),
  Flag.withMetavar("FORMAT"),
  Flag.withDescription("For people, or for machines: one document, one line per row"),
  Flag.withDefault("table")
)

/** What can be seen where the output goes. */
export interface Screen {
  readonly style: Style.Style
  /** Cells per line; undefined when it is not a terminal. */
  readonly width: number | undefined
  readonly canAnimate: boolean
}

/** The screen of this process's standard output. */
export const screen: Effect.Effect<Screen, never, Stdio.Stdio | Terminal.Terminal> = Effect.gen(function* () {
  const { canAnimate, canColor } = yield* TerminalCapabilities.TerminalCapabilities
  const stdio = yield* Stdio.Stdio
  const columns = (yield* stdio.stdoutIsTerminal) ? yield* (yield* Terminal.Terminal).columns : 0
  return { style: Style.make(canColor), width: columns > 0 ? columns : undefined, canAnimate }
})

/** Writes lines to stdout. */
export const print = (lines: ReadonlyArray<string>): Effect.Effect<void> =>
  lines.length === 0 ? Effect.void : Console.log(lines.join("\n"))

/** A remark for the person at the terminal, to stderr. */
export const note = (text: string): Effect.Effect<void> => Console.error(Visible.line(text))

/** One JSON document; in jsonl on one line. */
export const printDocument = (format: Format, document: Readonly<Record<string, unknown>>): Effect.Effect<void> =>
  Console.log(Visible.json({ schemaVersion: 1, ...document }, format === "jsonl" ? undefined : 2))

/** Rows of one kind. */
export interface Listing<Row> {
  /** The key of the rows in the JSON document. */
  readonly kind: string
  readonly rows: ReadonlyArray<Row>
  readonly columns: (style: Style.Style) => ReadonlyArray<Table.Column<Row>>
  readonly toJson: (row: Row) => unknown
  /** More keys of the JSON document. */
  readonly extra?: Readonly<Record<string, unknown>>
  /** Said instead of an empty table. */
  readonly empty: string
  /** Lines below the table. */
  readonly footer?: (style: Style.Style) => ReadonlyArray<string>
}

/** The lines of a listing in a format. */
export const linesOf = <Row>(format: Format, listing: Listing<Row>, screen: Screen): ReadonlyArray<string> => {
  switch (format) {
    case "json":
      return [Visible.json({ schemaVersion: 1, [listing.kind]: listing.rows.map(listing.toJson), ...listing.extra }, 2)]
    case "jsonl":
      return listing.rows.map((row) => Visible.json(listing.toJson(row)))
    case "table": {
      const footer = listing.footer?.(screen.style) ?? []
      if (listing.rows.length === 0) return [Visible.line(listing.empty), ...footer]
      const columns = listing.columns(screen.style)
      return [...Table.render(columns, listing.rows, { width: screen.width, heading: screen.style.heading }), ...footer]
    }
  }
}

/** One thing in detail. */
export interface Detail {
  readonly kind: string
  readonly toJson: () => unknown
  readonly pairs: (style: Style.Style) => Parameters<typeof Table.details>[0]
}

/** The lines of one thing. In JSON it is the value of its kind; in jsonl the thing itself. */
export const detailLines = (format: Format, detail: Detail, screen: Screen): ReadonlyArray<string> => {
  switch (format) {
    case "json":
      return [Visible.json({ schemaVersion: 1, [detail.kind]: detail.toJson() }, 2)]
    case "jsonl":
      return [Visible.json(detail.toJson())]
    case "table":
      return Table.details(detail.pairs(screen.style), screen.style.faint)
  }
}

/** An instant in JSON: ISO 8601, or null. */
export const instant = (epochMillis: number | undefined): string | null =>
  epochMillis === undefined || !Number.isFinite(epochMillis) ? null : new Date(Math.round(epochMillis)).toISOString()
