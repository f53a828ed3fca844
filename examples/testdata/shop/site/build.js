// Renders each page to HTML, with the license at its end.
const fs = require("fs");
const [, , from, to] = process.argv;
fs.mkdirSync(to, { recursive: true });
const license = fs.readFileSync("/run/secrets/license", "utf8").trim();
for (const name of fs.readdirSync(from)) {
  const title = fs.readFileSync(`${from}/${name}`, "utf8").replace(/^# /, "").trim();
  fs.writeFileSync(`${to}/${name.replace(/md$/, "html")}`, `<h1>${title}</h1><p>${license}\n`);
  fs.writeFileSync(`/cache/${name}`, "");
}
