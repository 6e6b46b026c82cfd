/**
 * `npm start`, as a person and as a script meet it: the numbers agree with the file system, whatever the names and kinds of
 * files; wrong usage is one line; Ctrl-C is clean, and the next run goes on where it stopped.
 */
import { createHash } from "node:crypto"
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { execFileSync } from "node:child_process"
import { assert, beforeAll, describe, it } from "vitest"
import { staged } from "../scratchpad/index-folder/IndexFile.ts"
import { run, start } from "./support/Child.ts"
import { findBinary, startRedis } from "./support/Redis.ts"
import { ServiceBusServer } from "./support/ServiceBusServer.ts"
import { openSqs } from "./support/Sqs.ts"

const main = fileURLToPath(new URL("../scratchpad/index-folder/main.ts", import.meta.url))

const home = mkdtempSync(join(tmpdir(), "polyqueue-start-"))
const odd = join(home, "odd")
const many = join(home, "many")
const manyFiles = 2_000

/** Text files of `odd` by path, with what is in them. */
const texts: Readonly<Record<string, string>> = {
  "a.txt": "one\ntwo\n",
  "no newline at the end.txt": "one\ntwo",
  empty: "",
  "line\nbreak \"quotes\" 'and' \u001b[31mred": "x\n",
  "--json": "looks like a flag\n",
  "日本語 и emoji 🙂.md": "多\nバイト\n",
  "deep/er/file.txt": "y\n".repeat(1_000),
  "large.txt": `${"z".repeat(99)}\n`.repeat(3_000),
  ...Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`some/f${i}.txt`, "s\n".repeat(i)]))
}
const notUtf8 = Buffer.from([0x62, 0x61, 0x64, 0xff, 0xfe])

beforeAll(() => {
  const write = (path: string, data: string | Buffer) => {
    mkdirSync(join(path, ".."), { recursive: true })
    writeFileSync(path, data)
  }
  for (const [path, text] of Object.entries(texts)) write(join(odd, path), text)
  write(join(odd, "binary.dat"), Buffer.from([1, 2, 0, 3]))
  write(join(odd, "node_modules/left/out.js"), "never read")
  write(join(odd, ".git/HEAD"), "never read")
  symlinkSync("nowhere", join(odd, "dangling"))
  symlinkSync("itself", join(odd, "itself"))
  symlinkSync("..", join(odd, "deep/circle"))
  if (process.platform === "linux") writeFileSync(Buffer.concat([Buffer.from(`${odd}/`), notUtf8]), "not UTF-8\n")
  if (process.platform !== "win32") execFileSync("mkfifo", [join(odd, "pipe")])
  for (let i = 0; i < manyFiles; i++) write(join(many, `d${i % 20}`, `f${i}.txt`), "line\n")
  return () => rmSync(home, { recursive: true, force: true })
})

const lastLine = (stdout: string): Record<string, unknown> => JSON.parse(stdout.trimEnd().split("\n").at(-1)!)

describe("npm start", { timeout: 120_000 }, () => {
  it("tells what is in a folder, whatever is in it", async (test) => {
    const { code, stderr, stdout } = await run(test, [main, odd, "--json"])
    assert.strictEqual(stderr, "")
    assert.strictEqual(stdout.trimEnd().split("\n").length, 1, "one JSON object, and nothing else")
    const found = lastLine(stdout)
    const oddName = process.platform === "linux" ? [{ path: notUtf8.toString(), text: "not UTF-8\n" }] : []
    const readable = [...Object.entries(texts).map(([path, text]) => ({ path, text })), ...oddName]
    const paths = [...readable.map(({ path }) => path), "binary.dat", "dangling", "itself"]
    const { bytes, failed, failures, interrupted, jobs, lines, resumed, retries, succeeded } = found
    assert.deepStrictEqual(
      { bytes, failed, interrupted, jobs, lines, resumed, retries, succeeded },
      {
        jobs: paths.length,
        succeeded: readable.length,
        failed: 3,
        retries: paths.reduce((sum, path) => sum + staged(path), 0),
        bytes: readable.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0),
        lines: readable.reduce((sum, { text }) => sum + (text.match(/\n|[^\n]$/g)?.length ?? 0), 0),
        resumed: false,
        interrupted: false
      }
    )
    assert.isAbove(Number(retries), 0, "some files of this tree are staged to fail at first")
    assert.deepStrictEqual(
      (failures as ReadonlyArray<{ kind: string; reason: string; example: string }>).map(
        ({ example, kind, reason }) => `${kind}: ${reason} (${example})`
      ),
      [
        "Unreadable: a link in a circle (itself)",
        "Unreadable: no such file (a link to nowhere, or deleted meanwhile) (dangling)",
        "terminal: binary: it has no lines (binary.dat)"
      ]
    )
    assert.strictEqual(code, 0)
  })

  it("stores the SHA-256 of every file, on the broker that was asked for", async (test) => {
    const folder = join(home, "hashes")
    const dataDir = join(home, "hashes-db")
    mkdirSync(folder)
    writeFileSync(join(folder, "a"), "abc")
    const { code, stdout } = await run(test, [main, folder, "--json", "--broker", "postgres", "--data-dir", dataDir])
    assert.strictEqual(code, 0)
    assert.strictEqual(lastLine(stdout)["broker"], "postgres")
    // The database is a folder that anybody can open once the program has ended
    const { PGlite } = await import("@electric-sql/pglite")
    const database = await PGlite.create(join(dataDir, "pgdata"))
    const { rows } = await database.query("select result->>'sha256' as sha256 from polyqueue.polyqueue_jobs")
    await database.close()
    assert.deepStrictEqual(rows, [{ sha256: createHash("sha256").update("abc").digest("hex") }])
  })

  it("prints a summary for people, without colours where there is no terminal", async (test) => {
    const { code, stderr, stdout } = await run(test, [main, odd])
    assert.match(stdout, /Indexed \d+ files in odd in [\d.]+ s: \d+ jobs\/s/)
    assert.match(stdout, /failed +3/)
    assert.match(stdout, /Slowest[^]*Attempts by worker[^]*worker 1[^]*worker 2/)
    assert.match(stderr, /starting Postgres/)
    // oxlint-disable-next-line no-control-regex
    assert.notMatch(stdout + stderr, /\u001b/, "neither colours nor what a file name smuggles in")
    assert.strictEqual(code, 0)
  })

  it.for([
    ["a folder that is not there", join(home, "nothing"), /: there is no such folder\n$/],
    ["a file", main, /: this is a file; give me a folder to index\n$/]
  ] as const)("refuses %s in one line", async ([, folder, words], test) => {
    const { code, stderr, stdout } = await run(test, [main, folder])
    assert.match(stderr, words)
    assert.strictEqual(stderr.trimEnd().split("\n").length, 1)
    assert.strictEqual(stdout, "")
    assert.strictEqual(code, 1)
  })

  it.for([["--wrong"], ["--broker", "pigeon"], ["one", "two"]])("answers %s with its usage", async (args, test) => {
    const { code, stderr, stdout } = await run(test, [main, ...args])
    assert.match(stdout, /USAGE[^]*npm start -- \[flags\]/)
    assert.match(stderr, new RegExp(args.at(-1)!))
    assert.strictEqual(code, 2)
  })

  it("finishes without its broker: a Redis that is not there costs warnings only", async (test) => {
    const folder = join(home, "brokerless")
    mkdirSync(folder)
    for (const name of ["a", "b", "c"]) writeFileSync(join(folder, name), name)
    const nowhere = { POLYQUEUE_REDIS_URL: "redis://127.0.0.1:1" }
    const { code, stderr, stdout } = await run(test, [main, folder, "--json", "--broker", "redis"], nowhere)
    assert.match(stderr, /Warn: .*ECONNREFUSED/)
    const { broker, failed, succeeded } = lastLine(stdout)
    assert.deepStrictEqual({ broker, failed, succeeded }, { broker: "redis", failed: 0, succeeded: 3 })
    assert.strictEqual(code, 0)
  })

  it.for([
    ["redis", "POLYQUEUE_REDIS_URL"],
    ["sqs", "POLYQUEUE_SQS_QUEUE_URL"],
    ["service-bus", "POLYQUEUE_AZURE_SB_CONNECTION_STRING"]
  ] as const)("refuses %s in one line when nobody says where it is", async ([broker, variable], test) => {
    const { code, stderr, stdout } = await run(test, [main, odd, "--broker", broker], { [variable]: "" })
    assert.strictEqual(stderr, `error: --broker ${broker} needs to know where it is: set ${variable}\n`)
    assert.deepStrictEqual([stdout, code], ["", 1])
  })

  it("runs on pgmq in the embedded database, also in one that has it already", async (test) => {
    const folder = join(home, "by-pgmq")
    mkdirSync(folder)
    for (const name of ["a", "b", "c"]) writeFileSync(join(folder, name), name)
    const args = [main, folder, "--json", "--broker", "pgmq", "--data-dir", join(home, "by-pgmq-db")]
    for (const _ of ["first", "again"]) {
      const { code, stderr, stdout } = await run(test, args)
      const { broker, failed, succeeded } = lastLine(stdout)
      assert.deepStrictEqual({ broker, failed, succeeded }, { broker: "pgmq", failed: 0, succeeded: 3 })
      assert.deepStrictEqual([stderr, code], ["", 0])
    }
  })

  it("runs on every broker that has a server, here", async (test) => {
    const folder = join(home, "by-servers")
    mkdirSync(folder)
    for (const name of ["a", "b", "c"]) writeFileSync(join(folder, name), name)
    const sqs = await openSqs({}, "")
    const serviceBus = await ServiceBusServer.start({ polyqueue: {} })
    const redis = findBinary() === undefined ? undefined : await startRedis()
    test.onTestFinished(async () => {
      await Promise.all([sqs.close(), serviceBus.close(), redis?.destroy()])
    })
    const where: Readonly<Record<string, Readonly<Record<string, string>> | undefined>> = {
      redis: redis && { POLYQUEUE_REDIS_URL: redis.url },
      sqs: {
        POLYQUEUE_SQS_QUEUE_URL: await sqs.createQueue(),
        AWS_ENDPOINT_URL_SQS: sqs.server!.endpoint,
        AWS_REGION: "us-east-1",
        AWS_ACCESS_KEY_ID: "AKIDTEST",
        AWS_SECRET_ACCESS_KEY: "not a secret"
      },
      "service-bus": { POLYQUEUE_AZURE_SB_CONNECTION_STRING: serviceBus.connectionString }
    }
    const one = async ([broker, environment]: (typeof all)[number]) => {
      const { code, stdout } = await run(test, [main, folder, "--json", "--broker", broker], environment)
      const { failed, succeeded } = lastLine(stdout)
      assert.deepStrictEqual({ broker, code, failed, succeeded }, { broker, code: 0, failed: 0, succeeded: 3 })
    }
    const all = Object.entries(where).filter(([, environment]) => environment !== undefined)
    assert.isAtLeast((await Promise.all(all.map(one))).length, 2)
  })

  it("stops cleanly in the middle, and the next run goes on", async (test) => {
    const dataDir = join(home, "kept")
    const first = start(test, [main, many, "--data-dir", dataDir])
    await first.says(/ of [\d,]+\+? files/)
    first.process.kill("SIGINT")
    const stopped = await first.ended
    assert.strictEqual(stopped.code, 130)
    const [, done, found] = /Stopped after ([\d,]+) of the ([\d,]+) files found so far/.exec(stopped.stdout)!
    const number = (text: string | undefined) => Number(text!.replaceAll(",", ""))
    assert.isBelow(number(done), manyFiles)
    assert.isAtMost(number(done), number(found))
    assert.match(stopped.stdout, /To go on: npm start -- .* --data-dir /)
    assert.notMatch(stopped.stdout + stopped.stderr, /^ +at |error/im, "no stack trace")

    const second = await run(test, [main, many, "--data-dir", dataDir, "--json"])
    const { bytes, failed, interrupted, jobs, resumed, succeeded } = lastLine(second.stdout)
    assert.deepStrictEqual(
      { bytes, failed, interrupted, jobs, resumed, succeeded },
      {
        jobs: manyFiles,
        succeeded: manyFiles,
        failed: 0,
        bytes: manyFiles * "line\n".length,
        interrupted: false,
        resumed: true
      },
      "each file once: what was enqueued twice is one job"
    )
    assert.strictEqual(second.code, 0)
  })

  it("is what package.json starts", () => {
    const { scripts } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"))
    assert.strictEqual(scripts.start, "node scratchpad/index-folder/main.ts")
  })
})
