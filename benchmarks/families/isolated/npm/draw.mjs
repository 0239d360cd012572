// Draws the families of the npm generators: node draw.mjs FAMILY FOLDER COUNT
// Each picture has its own seed, so that any part of a family can be drawn again.
import { createRequire } from "node:module";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

const require = createRequire(import.meta.url);

/** A generator of random numbers in [0, 1), seeded by a text: FNV-1a for the seed, then mulberry32. */
function randomFrom(text) {
  let seed = 0x811c9dc5;
  for (const character of text) seed = Math.imul(seed ^ character.codePointAt(0), 0x01000193);
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), seed | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const FAMILIES = {
  "svg-captcha": () => {
    const svgCaptcha = require("svg-captcha");
    const { Canvas, loadImage } = require("skia-canvas");
    return async () => {
      const { text, data } = svgCaptcha.create({
        width: 150,
        height: 50,
        fontSize: 44,
        size: 5,
        noise: 2,
        color: true,
        background: "#cc9966",
        ignoreChars: "l", // looks like I in its font
      });
      const canvas = new Canvas(150, 50);
      canvas.getContext("2d").drawImage(await loadImage(Buffer.from(data)), 0, 0);
      return { text, png: await canvas.toBuffer("png") };
    };
  },
  "captcha-canvas": () => {
    const { FontLibrary } = require("skia-canvas");
    FontLibrary.use("Exam", [
      require.resolve("@fontsource/ubuntu-condensed/files/ubuntu-condensed-latin-400-normal.woff2"),
    ]);
    // The generator draws its decoys with randomBytes, which cannot be seeded.
    require("crypto").randomBytes = (count) =>
      Buffer.from(Array.from({ length: count }, () => Math.floor(Math.random() * 256)));
    const { CaptchaGenerator } = require("captcha-canvas");
    return async () => {
      const text = Array.from({ length: 6 }, () => "0123456789ABCDEF"[Math.floor(Math.random() * 16)]);
      const colors = ["#2c3e50", "#c0392b", "#27ae60", "#8e44ad", "#2980b9"];
      const png = await new CaptchaGenerator()
        .setDimension(100, 300)
        .setCaptcha({ text: text.join(""), size: 38, font: "Exam", colors, rotate: 12 })
        .setTrace({ color: colors[Math.floor(Math.random() * colors.length)], size: 2 })
        .setDecoy({ opacity: 0.4, font: "Exam", total: 20 })
        .generate();
      return { text: text.join(""), png };
    };
  },
};

const [family, folder, count] = process.argv.slice(2);
const draw = FAMILIES[family]();
const rows = ["path,label"];
for (let index = 0; index < Number(count); index++) {
  Math.random = randomFrom(`${family}/${index}`);
  const { text, png } = await draw();
  const name = `${String(index).padStart(6, "0")}.png`;
  writeFileSync(join(folder, name), png);
  rows.push(`${name},${text}`);
}
writeFileSync(join(folder, "labels.csv"), rows.join("\n") + "\n");
