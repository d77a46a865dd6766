/** True only in the build that the tests run (build.mjs --test): fault points exist there and nowhere else. */
declare const __FAULTS__: boolean;
/** The version in package.json. */
declare const __VERSION__: string;
