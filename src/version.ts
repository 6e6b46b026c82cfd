/** The version of this package, as workers report it. `test/package.test.ts` keeps it equal to package.json's. */
export const version = "0.1.0"
