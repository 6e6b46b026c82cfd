/**
 * The package as its users get it: packed, checked by publint and attw, unpacked into projects that have only some of the
 * peers, and imported there.
 */
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { execFile } from "node:child_process"
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { promisify } from "node:util"

const root = join(import.meta.dirname, "..")
const bin = (name: string) => join(root, "node_modules", ".bin", name)
const run = promisify(execFile)
let work: string
let tarball: string
let files: ReadonlyArray<string>

/** Everything of `exports` that loads with `effect` and `@effect/sql-pg` alone. */
const free = [".", "./config", "./health", "./metrics", "./pgmq", "./redis", "./service-bus", "./sqs", "./testing"]

/** What needs an optional peer, and what it is used for that does not work without. */
const optional: ReadonlyArray<{ readonly peer: string; readonly use: string }> = [
  { peer: "ioredis", use: `(await import("polyqueue/redis")).layer({ url: Redacted.make("redis://127.0.0.1:1") })` },
  {
    peer: "@aws-sdk/client-sqs",
    use: `(await import("polyqueue/sqs")).layer({ queueUrl: "https://sqs.example/1/jobs" })`
  },
  {
    peer: "@azure/service-bus",
    use: `(await import("polyqueue/service-bus")).layer({
      connectionString: Redacted.make("Endpoint=sb://example;SharedAccessKeyName=a;SharedAccessKey=b"), queue: "jobs" })`
  },
  { peer: "@electric-sql/pglite", use: `(await import("polyqueue")).Polyqueue.layerEmbedded()` }
]

beforeAll(async () => {
  work = await mkdtemp(join(tmpdir(), "polyqueue-package-"))
  const source = join(work, "source")
  await mkdir(source)
  for (const name of ["package.json", "LICENSE", "README.md", "CHANGELOG.md", "src", "migrations"]) {
    await cp(join(root, name), join(source, name), { recursive: true })
  }
  await run(bin("tsc"), ["-p", "tsconfig.build.json", "--outDir", join(source, "dist")], { cwd: root })
  const packed = await run("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", work], { cwd: source })
  tarball = join(
    work,
    (await readdir(work)).find((name) => name.endsWith(".tgz"))!
  )
  const answer: unknown = JSON.parse(packed.stdout)
  const [report] = Array.isArray(answer) ? answer : Object.values(answer as object)
  files = report.files.map((file: { path: string }) => file.path).sort()
}, 300_000)

afterAll(() => rm(work, { recursive: true, force: true }))

/** A project with the package and some of its peers, and nothing else to be found above it. */
const project = async (name: string, peers: ReadonlyArray<string>): Promise<string> => {
  const folder = join(work, name)
  const modules = join(folder, "node_modules")
  await mkdir(join(modules, "polyqueue"), { recursive: true })
  await run("tar", ["-xzf", tarball, "-C", join(modules, "polyqueue"), "--strip-components=1"])
  for (const peer of ["effect", "@effect/sql-pg", ...peers]) {
    await mkdir(dirname(join(modules, peer)), { recursive: true })
    await symlink(join(root, "node_modules", peer), join(modules, peer))
  }
  await writeFile(join(folder, "package.json"), JSON.stringify({ type: "module" }))
  return folder
}

const load = (folder: string, source: string, type: "module" | "commonjs" = "module") =>
  run(process.execPath, [`--input-type=${type}`, "--eval", source], { cwd: folder })

describe("the package", () => {
  it("holds the sources, what is built from them, and five files more", () => {
    const sources = files.filter((file) => /^(src|migrations)\/.*\.ts$/.test(file))
    const built = sources.flatMap((file) =>
      ["js", "js.map", "d.ts", "d.ts.map"].map((extension) => `dist/${file.replace(/ts$/, extension)}`)
    )
    const rest = ["CHANGELOG.md", "LICENSE", "README.md", "package.json"]
    assert.deepStrictEqual(files, [...sources, ...built, ...rest].sort())
    assert.isAbove(sources.length, 20)
  })

  it("names no subpath that this test does not know", async () => {
    const { exports } = JSON.parse(await readFile(join(root, "package.json"), "utf8"))
    assert.sameMembers(Object.keys(exports), [...free, "./cli", "./testing/contracts", "./package.json"])
  })

  it("is clean for publint", async () => {
    const { stdout } = await run(bin("publint"), [tarball, "--strict"], { cwd: root })
    assert.include(stdout, "All good!")
  }, 120_000)

  it("is clean for attw, as an ESM package", async () => {
    await run(bin("attw"), [tarball, "--profile", "esm-only", "--format", "ascii"], { cwd: root })
  }, 120_000)

  it("loads with effect and @effect/sql-pg alone: no broker's SDK, no PGlite, no test runner", async () => {
    const folder = await project("alone", [])
    for (const subpath of free) await load(folder, `await import("polyqueue${subpath.slice(1)}")`)
    await load(folder, `if (!require("polyqueue").Polyqueue.layerMemory) throw new Error("not there")`, "commonjs")
  }, 60_000)

  it.for(optional)(
    "without $peer what needs it fails with a typed error that says how to install it",
    { timeout: 60_000 },
    async ({ peer, use }) => {
      const folder = await project(`without-${peer.replaceAll(/\W/g, "-")}`, [])
      const source = `
        import { Effect, Layer, Redacted } from "effect"
        const error = await Effect.runPromise(Effect.flip(Effect.scoped(Layer.build(${use}))))
        console.log(JSON.stringify({ tag: error._tag, message: error.message }))`
      const { tag, message } = JSON.parse((await load(folder, source)).stdout)
      assert.match(tag, /^(Broker|Store)Error$/)
      assert.include(message, `npm install ${peer}`)
    }
  )

  it("brings the program polyqueue, which says what it needs besides", async () => {
    const alone = await project("program-alone", [])
    const program = join("node_modules", "polyqueue", "dist", "src", "bin.js")
    const failure = await run(process.execPath, [program, "--version"], { cwd: alone }).then(
      () => assert.fail("it ran without @effect/platform-node"),
      (error: { readonly code: number; readonly stderr: string }) => error
    )
    assert.strictEqual(failure.code, 1)
    assert.strictEqual(
      failure.stderr,
      "polyqueue: the program needs @effect/platform-node: npm install @effect/platform-node\n"
    )
    const folder = await project("program", ["@effect/platform-node"])
    const { stdout } = await run(process.execPath, [program, "--version"], { cwd: folder })
    assert.match(stdout, /^polyqueue \d+\.\d+\.\d+\n$/)
  }, 60_000)

  it("type-checks in a strict project that checks its libraries", async () => {
    const folder = await project("types", ["@types/node", "undici-types"])
    const options = {
      strict: true,
      module: "nodenext",
      target: "es2024",
      noEmit: true,
      types: ["node"],
      skipLibCheck: true
    }
    await writeFile(
      join(folder, "index.ts"),
      `import { Layer } from "effect"
       import { Broker, Polyqueue } from "polyqueue"
       export const layer: Layer.Layer<Polyqueue> = Polyqueue.layerMemory
       // @ts-expect-error a broker is not a string
       export const wrong: string = Broker.layerMemory`
    )
    await writeFile(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions: options, files: ["index.ts"] }))
    await run(bin("tsc"), ["-p", folder]).catch((error) => assert.fail(error.stdout))
  }, 60_000)
})
