/**
 * Text from whatever a handler failed with, to be stored and shown. It never throws: what a handler fails or dies with may
 * be a proxy, an object without a prototype, an error whose getters throw, or one whose causes go on for ever.
 */
import * as Cause from "effect/Cause"

/** Causes of causes that are written out; rendering more takes time that grows with the square of their number. */
const maxCauses = 32

const orNothing = (read: () => unknown): string | undefined => {
  try {
    const text = read()
    return typeof text === "string" ? text : undefined
  } catch {
    // It will not be read: whoever asked has something else to say
    return undefined
  }
}

const own = (error: unknown): unknown => {
  if (error instanceof Error) return error.message === "" ? error.name : error.message
  if (typeof error === "object" && error !== null && "_tag" in error) return String(error._tag)
  return undefined
}

/** The message of an error, the tag of a tagged value, else the value as text. */
export const messageOf = (error: unknown): string =>
  orNothing(() => own(error)) ?? orNothing(() => String(error)) ?? "a value that cannot be written as text"

/** What a server or an SDK said, as one line: it may be anybody's words, and goes into logs and onto terminals. */
export const oneLine = (text: string): string => text.replaceAll(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, " ").trim()

const isDeep = (error: unknown): boolean => {
  let one = error
  for (let depth = 0; depth < maxCauses; depth++) {
    if (!(one instanceof Error) || one.cause === undefined) return false
    one = one.cause
  }
  return true
}

/**
 * The cause as `Cause.pretty` renders it; where that is not possible, its messages, one per line. So it is for objects that
 * are no errors: rendering those would write out all they hold, which may well be a payload.
 */
export const stackOf = (cause: Cause.Cause<unknown>): string => {
  const errors = cause.reasons.flatMap((reason) =>
    Cause.isFailReason(reason) ? [reason.error] : Cause.isDieReason(reason) ? [reason.defect] : []
  )
  const pretty = () =>
    errors.every((error) => error instanceof Error && !isDeep(error)) ? Cause.pretty(cause) : undefined
  return orNothing(pretty) ?? errors.map(messageOf).join("\n")
}
