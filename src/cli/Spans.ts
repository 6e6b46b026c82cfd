/**
 * Lengths of time and sizes as people read and write them: `42s`, `5m 12s`, `3h 20m`, `4d 6h`; `30s`, `5m`, `1h`, `7d`.
 */
import * as Result from "effect/Result"

const second = 1_000
const minute = 60 * second
const hour = 60 * minute
const day = 24 * hour

/** Milliseconds for people, in the two largest units that matter. */
export const show = (milliseconds: number): string => {
  if (milliseconds < 0) return `-${show(-milliseconds)}`
  if (milliseconds < second) return `${Math.round(milliseconds)}ms`
  const rounded =
    milliseconds < 10 * second ? Math.round(milliseconds / 100) * 100 : Math.round(milliseconds / second) * second
  if (rounded < 10 * second) return `${rounded / second}s`
  if (rounded < minute) return `${rounded / second}s`
  const two = (large: number, largeName: string, small: number, smallName: string) => {
    const rest = Math.floor((rounded % large) / small)
    return `${Math.floor(rounded / large)}${largeName}${rest === 0 ? "" : ` ${rest}${smallName}`}`
  }
  if (rounded < hour) return two(minute, "m", second, "s")
  if (rounded < 2 * day) return two(hour, "h", minute, "m")
  return two(day, "d", hour, "h")
}

/** How long ago an instant was, or how far ahead it is. */
export const ago = (instant: number, now: number): string =>
  instant > now ? `in ${show(instant - now)}` : `${show(now - instant)} ago`

const units: Readonly<Record<string, number>> = { ms: 1, s: second, m: minute, h: hour, d: day, w: 7 * day }

/** Reads `30s`, `1.5h`, `7d`, `500ms`; milliseconds, or what is allowed. */
export const parse = (text: string): Result.Result<number, string> => {
  const found = /^(\d+(?:\.\d+)?)(ms|s|m|h|d|w)$/.exec(text.trim())
  const unit = found === null ? undefined : units[found[2]!]
  if (found === null || unit === undefined) {
    return Result.fail("a length of time like 30s, 5m, 1h, 7d (units: ms, s, m, h, d, w)")
  }
  return Result.succeed(Number(found[1]) * unit)
}

/** Bytes for people. */
export const bytes = (count: number): string =>
  count < 1_024
    ? `${count} B`
    : count < 1_048_576
      ? `${(count / 1_024).toFixed(1)} kB`
      : `${(count / 1_048_576).toFixed(1)} MB`

/** A whole number with its thousands apart. */
export const count = (value: number): string => String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, ",")
