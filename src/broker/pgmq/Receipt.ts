/**
 * A receipt of one read of one message: its queue, its id, how often it had been read by then, and when it was born. No
 * later read of it, and no later message with its id, has the same. Text, so it can travel; a forged one owns nothing.
 */

/** What a guarded statement compares. Numbers of 64 bits stay text. */
export interface Receipt {
  readonly id: string
  readonly reads: number
  readonly born: string
}

const form = /^([a-z0-9_-]+):(\d{1,19})\.(\d{1,10})\.(\d{1,19})$/
const MAX_BIGINT = 9_223_372_036_854_775_807n
const MAX_INT = 2_147_483_647

/** The text of a receipt. `name`: pgmq's name of the queue; ids of two queues may be equal. */
export const encode = (name: string, { born, id, reads }: Receipt): string => `${name}:${id}.${reads}.${born}`

/** The receipt, or `undefined` when the text is none of this queue: it must not make a whole batch fail. */
export const decode = (name: string, text: string): Receipt | undefined => {
  const [, queue, id, reads, born] = form.exec(text) ?? []
  if (queue !== name || id === undefined || reads === undefined || born === undefined) return undefined
  if (BigInt(id) > MAX_BIGINT || BigInt(born) > MAX_BIGINT || Number(reads) > MAX_INT) return undefined
  return { id, reads: Number(reads), born }
}
