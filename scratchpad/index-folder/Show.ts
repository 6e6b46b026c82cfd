/**
 * How numbers and names are shown to people.
 */
import { styleText } from "node:util"

export const count = (n: number): string => n.toLocaleString("en-US")

export const percent = (part: number, whole: number): string =>
  whole === 0 ? "0 %" : `${Math.floor((100 * part) / whole)} %`

/** 999 B, 1.2 kB, 34 MB. */
export const bytes = (n: number): string => {
  let value = n
  let unit = "B"
  for (const next of ["kB", "MB", "GB", "TB"]) {
    if (value < 1_000) break
    value /= 1_000
    unit = next
  }
  return `${unit === "B" || value >= 10 ? Math.round(value) : value.toFixed(1)} ${unit}`
}

/** "1 file", "2 files". */
export const plural = (n: number, one: string): string => `${count(n)} ${one}${n === 1 ? "" : "s"}`

/** A name without what a terminal would obey: control and format characters are spelled out. */
export const name = (text: string): string =>
  text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (char) => `\\u{${char.codePointAt(0)!.toString(16)}}`)

type Format = Parameters<typeof styleText>[0]

/** Styles for one stream: none when it is not a terminal or `NO_COLOR` is set. */
export const styles =
  (stream: NodeJS.WriteStream) =>
  (format: Format, text: string): string =>
    styleText(format, text, { stream })
