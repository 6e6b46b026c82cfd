/**
 * What may be shown of a value somebody wrote into a setting. A value of a setting that is a secret never is; and what looks
 * like a connection string is not either, whatever setting it was written into by mistake.
 */

const maxShown = 60

/** A scheme, `key=value;`, or credentials before a host. */
const looksSecret = /:\/\/|=[^;]*;|;[^=]*=|:[^@]*@|password|secret|accesskey|signature/i

/** Longer than any setting. Such text is not even looked at: that would take time which grows with the square of it. */
const maxLooked = 1_000

/** True for text that may hold a password. */
export const isSuspicious = (text: string): boolean => text.length > maxLooked || looksSecret.test(text)

/** The value for a message: quoted and short, or a word instead of it. */
export const shown = (text: string, isSecret: boolean): string => {
  if (isSecret || isSuspicious(text)) return "(hidden)"
  return JSON.stringify(text.length > maxShown ? `${text.slice(0, maxShown)}…` : text)
}

/** The text with what stands before the host of a URL left out: somebody may have pasted a whole connection string. */
export const withoutCredentials = (text: string): string => text.replaceAll(/:\/\/[^@\s"']{0,500}@/g, "://(hidden)@")
