// The scripts of ui/static are pasted together into one function body and share its scope; here a
// few of them are, and what they define is handed out.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const FOLDER = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "ui", "static");

export function load(files, names) {
  const text = files.map((file) => readFileSync(join(FOLDER, file), "utf-8")).join("\n");
  return new Function(`${text}\nreturn { ${names.join(", ")} };`)();
}
