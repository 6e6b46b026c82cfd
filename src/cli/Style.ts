/**
 * Colours, only ever beside a word that says the same: on a terminal, never under NO_COLOR, never in JSON.
 */

/** Wraps text in a colour, or leaves it alone. */
export type Paint = (text: string) => string

/** The colours the CLI uses, by meaning. */
export interface Style {
  readonly heading: Paint
  readonly good: Paint
  readonly bad: Paint
  readonly warning: Paint
  readonly active: Paint
  readonly faint: Paint
}

const sgr =
  (code: number): Paint =>
  (text) =>
    text === "" ? text : `\u001b[${code}m${text}\u001b[0m`

const plain: Paint = (text) => text

const colored: Style = {
  heading: sgr(1),
  good: sgr(32),
  bad: sgr(31),
  warning: sgr(33),
  active: sgr(36),
  faint: sgr(2)
}

const uncolored: Style = {
  heading: plain,
  good: plain,
  bad: plain,
  warning: plain,
  active: plain,
  faint: plain
}

/** The style of an output that can or cannot show colours. */
export const make = (canColor: boolean): Style => (canColor ? colored : uncolored)

/** The colour of a job's or worker's status. */
export const ofStatus = (style: Style, status: string): Paint => {
  switch (status) {
    case "succeeded":
    case "running":
      return style.good
    case "failed":
    case "dead":
      return style.bad
    case "processing":
    case "draining":
      return style.active
    case "cancelled":
    case "stopped":
      return style.faint
    default:
      return plain
  }
}
