/**
 * The embedded metric format as its specification has it: the JSON schema that AWS publishes, and the rules that are only in
 * its text (targets exist, are numbers or at most 100 of them, 100 metrics and 256 KB at most).
 */
import { Ajv } from "ajv"

const name = { type: "string", pattern: "^(.*)$", minLength: 1, maxLength: 255 }
const rates = [
  "Bytes",
  "Kilobytes",
  "Megabytes",
  "Gigabytes",
  "Terabytes",
  "Bits",
  "Kilobits",
  "Megabits",
  "Gigabits",
  "Terabits",
  "Count"
]
const units = [
  "Seconds",
  "Microseconds",
  "Milliseconds",
  "Percent",
  "None",
  ...rates,
  ...rates.map((unit) => `${unit}/Second`)
]

const schema = {
  type: "object",
  required: ["_aws"],
  properties: {
    _aws: {
      type: "object",
      required: ["Timestamp", "CloudWatchMetrics"],
      properties: {
        Timestamp: { type: "integer" },
        CloudWatchMetrics: {
          type: "array",
          items: {
            type: "object",
            required: ["Namespace", "Dimensions", "Metrics"],
            properties: {
              Namespace: name,
              Dimensions: {
                type: "array",
                minItems: 1,
                items: { type: "array", minItems: 0, maxItems: 9, items: name }
              },
              Metrics: {
                type: "array",
                maxItems: 100,
                items: {
                  type: "object",
                  required: ["Name"],
                  properties: { Name: name, Unit: { type: "string", enum: units } }
                }
              }
            }
          }
        }
      }
    }
  }
}

const validate = new Ajv({ strict: false }).compile(schema)

/** A line, parsed. */
export interface Emf {
  readonly _aws: {
    readonly Timestamp: number
    readonly CloudWatchMetrics: ReadonlyArray<{
      readonly Namespace: string
      readonly Dimensions: ReadonlyArray<ReadonlyArray<string>>
      readonly Metrics: ReadonlyArray<{ readonly Name: string; readonly Unit: string }>
    }>
  }
  readonly [target: string]: unknown
}

const isNumber = (value: unknown) => typeof value === "number" && Number.isFinite(value)

/** What is wrong with a line; nothing, if it is valid. */
export const problemsOf = (line: string): ReadonlyArray<string> => {
  if (line.includes("\n") || Buffer.byteLength(line) > 262_144) return ["not one line of at most 256 KB"]
  const value: Emf = JSON.parse(line)
  if (!validate(value)) return [JSON.stringify(validate.errors)]
  return value._aws.CloudWatchMetrics.flatMap(({ Dimensions, Metrics }) => [
    ...Dimensions.flat().flatMap((name) => {
      const target = value[name]
      return typeof target === "string" && target.length >= 1 && target.length <= 1_024 ? [] : [`dimension ${name}`]
    }),
    ...Metrics.flatMap(({ Name }) => {
      const target = value[Name]
      const isList = Array.isArray(target) && target.length >= 1 && target.length <= 100 && target.every(isNumber)
      return isNumber(target) || isList ? [] : [`metric ${Name}`]
    })
  ])
}
