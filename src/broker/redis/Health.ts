/**
 * What is wrong with a Redis, read from its `INFO`: too old, a replica, an eviction policy that deletes hints without a
 * word, or memory that is nearly full.
 */

/** From here on a server is nearly full. */
const NEARLY_FULL = 0.9

/** `INFO` as a map of field to value. */
const fieldsOf = (info: string): ReadonlyMap<string, string> =>
  new Map(
    info.split(/\r?\n/).flatMap((line) => {
      const colon = line.indexOf(":")
      return colon < 1 ? [] : [[line.slice(0, colon), line.slice(colon + 1)] as const]
    })
  )

/** Why the scripts cannot run on this server at all; `undefined` if they can, or if it does not say. */
export const tooOld = (info: string): string | undefined => {
  const version = fieldsOf(info).get("redis_version")
  return version === undefined || Number.parseInt(version, 10) >= 7
    ? undefined
    : `Redis ${version} is too old: version 7 or Valkey is needed`
}

/** What a person should change, a sentence each; empty when all is well. */
export const problemsOf = (info: string): ReadonlyArray<string> => {
  const fields = fieldsOf(info)
  const problems: Array<string> = []
  const old = tooOld(info)
  if (old !== undefined) problems.push(`${old}.`)
  const policy = fields.get("maxmemory_policy")
  if (policy?.startsWith("allkeys-") === true) {
    problems.push(
      `maxmemory-policy is ${policy}: Redis may delete any hint without a word. Set it to noeviction ` +
        "(jobs are safe in Postgres, but start late)."
    )
  }
  if (fields.get("role") === "slave") {
    problems.push("This server is a replica and takes no writes: point `url` at the primary.")
  }
  if (fields.get("loading") === "1") problems.push("Redis is still loading its data: wait.")
  const limit = Number(fields.get("maxmemory") ?? 0)
  const used = Number(fields.get("used_memory") ?? 0)
  if (limit > 0 && used > limit * NEARLY_FULL) {
    problems.push(
      `Redis uses ${Math.round((100 * used) / limit)}% of its maxmemory: when it is full, publishing is refused. ` +
        "Give it more memory."
    )
  }
  return problems
}
