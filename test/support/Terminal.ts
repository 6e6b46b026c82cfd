/**
 * What must never reach a terminal, as a list of its own: C0 but the line break, DEL, C1, soft hyphen, bidi, zero width,
 * separators, fillers, byte order mark, tags, surrogates.
 */
export const forbidden =
  // oxlint-disable-next-line no-control-regex
  /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]|[\ud800-\udfff]/u

/** Text without the colours that we use ourselves. */
// oxlint-disable-next-line no-control-regex
export const withoutColors = (text: string): string => text.replaceAll(/\u001b\[(?:0|1|2|31|32|33|36)m/g, "")
