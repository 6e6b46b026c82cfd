/** Cannot be loaded. */
throw new TypeError("no such setting")
