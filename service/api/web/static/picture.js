// Prepares a picture for upload: the file itself, or a smaller copy if the file is too large.

const PIXELS = 1_000_000;
const FEWEST_PIXELS = 20_000;
// The service counts a byte beyond 64 kB of a PNG as ten pixels.
const PNG_BYTES = 200_000;

/** A region in the format of the query parameter `region`. */
export const regionText = ({ x, y, width, height }) => [x, y, width, height].join(",");

/**
 * The body to send, and how its positions map to positions in the picture: x + position / scale.
 *
 * `limits` are {bytes, pixels}. `shrink` makes a copy even if the file is small. A copy contains
 * only the region; for the file itself, `region` is sent to the service.
 */
export async function toSend(file, region, limits, shrink = false) {
  const asItIs = { body: file, region, x: 0, scale: 1, size: null };
  if (!shrink && file.size <= limits.bytes) return asItIs;
  // The browser applies the EXIF orientation, as the service would.
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (!bitmap) return asItIs;
  const part = region ?? { x: 0, y: 0, width: bitmap.width, height: bitmap.height };
  const type = file.type === "image/jpeg" ? file.type : "image/png";
  // The service counts a pixel with transparency as several, and a canvas makes a PNG with it.
  let pixels = Math.min(PIXELS, limits.pixels / (type === "image/png" ? 8 : 2));
  const bytes = type === "image/png" ? Math.min(limits.bytes, PNG_BYTES) : limits.bytes;
  for (;;) {
    const scale = Math.min(1, Math.sqrt(pixels / (part.width * part.height)));
    const canvas = drawn(bitmap, part, scale);
    const body = await new Promise((resolve) => canvas.toBlob(resolve, type, 0.92));
    if (body && (body.size <= bytes || pixels < FEWEST_PIXELS)) {
      bitmap.close();
      return { body, x: part.x, scale: canvas.width / part.width, size: [canvas.width, canvas.height] };
    }
    if (!body) return asItIs;
    pixels /= 2;
  }
}

/** The region of a picture as a picture of its own, not scaled. */
export async function cut(file, region) {
  const bitmap = await createImageBitmap(file);
  const canvas = drawn(bitmap, region, 1);
  bitmap.close();
  return new Promise((resolve) => canvas.toBlob(resolve));
}

function drawn(bitmap, { x, y, width, height }, scale) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, x, y, width, height, 0, 0, canvas.width, canvas.height);
  return canvas;
}
