/**
 * Kinds of settings: how the text of a variable is read, and the sentence that says what is allowed. A kind answers
 * `undefined` for what is not allowed; it never throws and never quotes the text.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { isSuspicious } from "./Secrets.ts"

/** How one kind of setting is read. */
export interface Kind<Value> {
  readonly read: (text: string) => Value | undefined
  /** Continues "… must be". */
  readonly allowed: string
  readonly isSecret: boolean
}

const plain = <Value>(allowed: string, read: (text: string) => Value | undefined): Kind<Value> => ({
  read,
  allowed,
  isSecret: false
})

const numeral = /^[+-]?\d+(\.\d+)?$/

/** Seconds from `30`, `0.5` or `30 seconds`. */
const toSeconds = (text: string): number | undefined => {
  if (numeral.test(text)) return Number(text)
  if (!/^\d+(\.\d+)? [a-z]+$/.test(text)) return undefined
  return Option.getOrUndefined(
    Option.map(
      Duration.fromInput(text as `${number} ${Duration.Unit}`),
      (duration) => Duration.toMillis(duration) / 1_000
    )
  )
}

const within = (value: number | undefined, min: number, max: number): number | undefined =>
  value !== undefined && value >= min && value <= max ? value : undefined

/** A time: a number of seconds, or a number and a unit. */
export const seconds = (min: number, max: number): Kind<number> =>
  plain(`a number of seconds from ${min} to ${max}, such as 30 or "30 seconds"`, (text) =>
    within(toSeconds(text), min, max)
  )

/** A time in milliseconds: a number of them, or a number and a unit. */
export const milliseconds = (min: number, max: number): Kind<number> =>
  plain(`a number of milliseconds from ${min} to ${max}`, (text) => {
    const read = numeral.test(text) ? Number(text) : toSeconds(text)
    return within(read === undefined || numeral.test(text) ? read : read * 1_000, min, max)
  })

/** A whole number. */
export const int = (min: number, max: number): Kind<number> =>
  plain(`a whole number from ${min} to ${max}`, (text) =>
    /^\d+$/.test(text) ? within(Number(text), min, max) : undefined
  )

/** `10,60,300`, with or without spaces and brackets; each like `seconds`. */
export const secondsList = (max: number): Kind<ReadonlyArray<number>> =>
  plain(`1 to 100 numbers of seconds from 0 to ${max} with commas between them, such as 10,60,300`, (text) => {
    const parts = text.replace(/^\[(.*)\]$/, "$1").split(",")
    const read = parts.map((part) => within(toSeconds(part.trim()), 0, max))
    return parts.length <= 100 && read.every((part) => part !== undefined) ? read : undefined
  })

/** One of some words. */
export const oneOf = <const Word extends string>(words: ReadonlyArray<Word>): Kind<Word> =>
  plain(`one of ${words.join(", ")}`, (text) => words.find((word) => word === text.toLowerCase()))

const truths = new Map([
  ...["true", "1", "yes", "y", "on"].map((word) => [word, true] as const),
  ...["false", "0", "no", "n", "off"].map((word) => [word, false] as const)
])

/** Yes or no. */
export const boolean: Kind<boolean> = plain("true or false (or yes, no, on, off, 1, 0)", (text) =>
  truths.get(text.toLowerCase())
)

/** Text that will be shown in logs and lists, so it must not be a connection string. */
export const text = (allowed: string, isValid: (text: string) => boolean): Kind<string> =>
  plain(allowed, (text) => (isValid(text) ? text : undefined))

/** A name for people. */
export const name: Kind<string> = text(
  "1 to 200 characters without control characters, and nothing that looks like a connection string",
  (text) => text.length <= 200 && !/[\p{Cc}\p{Zl}\p{Zp}]/u.test(text) && !isSuspicious(text)
)

/** A value that is never shown. */
export const secret = (
  allowed: string,
  accept: (text: string) => string | undefined
): Kind<Redacted.Redacted<string>> => ({
  read: (text) => {
    const accepted = accept(text)
    return accepted === undefined ? undefined : Redacted.make(accepted)
  },
  allowed,
  isSecret: true
})
