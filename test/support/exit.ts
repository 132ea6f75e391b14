/**
 * Ends the process when uvu has said its last word. Loaded by test/run.ts before a test file, so that files need
 * not close every connection they opened.
 */
const write = process.stdout.write.bind(process.stdout);
let finishing = false;

process.stdout.write = ((chunk: string | Uint8Array, ...rest: []) => {
  // uvu sets the exit code right after this line.
  if (/^\n {2}Duration: /.test(String(chunk)) && !finishing) {
    finishing = true;
    setImmediate(() => process.exit());
  }
  return write(chunk, ...rest);
}) as typeof process.stdout.write;
