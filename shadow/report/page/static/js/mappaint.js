// SPDX-License-Identifier: GPL-2.0-only
// Paints cells into pixels: tens of thousands of rectangles take a canvas too long.

/** A picture made of rectangles, and of crossed boxes on top of them. */
export class Paint {
  /**
   * @param {CanvasRenderingContext2D} ctx where the picture goes
   * @param {number} scale device pixels of a pixel
   * @param {Object<string, string>} colours as mapColours returns them
   * @param {string} ground the name of the colour of the ground
   */
  constructor(ctx, scale, colours, ground) {
    this.ctx = ctx;
    this.scale = scale;
    this.colours = colours;
    this.values = {};
    this.crosses = [];
    this.image = ctx.createImageData(ctx.canvas.width, ctx.canvas.height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.pixels.fill(this.value(ground));
  }

  /** The pixel of a colour. */
  value(name) {
    this.values[name] ??= pixelOf(this.colours[name]);
    return this.values[name];
  }

  rectangle(name, x, y, width, height) {
    const { scale, pixels, image } = this;
    const left = Math.max(Math.round(x * scale), 0);
    const right = Math.min(Math.round((x + width) * scale), image.width);
    const bottom = Math.min(Math.round((y + height) * scale), image.height);
    if (right <= left) return;
    const value = this.value(name);
    for (let line = Math.max(Math.round(y * scale), 0); line < bottom; line += 1) {
      pixels.fill(value, line * image.width + left, line * image.width + right);
    }
  }

  crossedBox(x, y, width, height) {
    this.crosses.push([x, y, width, height]);
  }

  /** Put the picture onto the canvas. */
  finish() {
    const { ctx } = this;
    ctx.putImageData(this.image, 0, 0);
    ctx.strokeStyle = this.colours.empty;
    for (const [x, y, width, height] of this.crosses) strokeCrossedBox(ctx, x, y, width, height);
  }
}

function strokeCrossedBox(ctx, x, y, width, height) {
  ctx.lineWidth = width >= 12 ? 2 : 1.4;
  const inset = ctx.lineWidth / 2;
  ctx.strokeRect(x + inset, y + inset, width - 2 * inset, height - 2 * inset);
  ctx.beginPath();
  ctx.moveTo(x + 2, y + 2);
  ctx.lineTo(x + width - 2, y + height - 2);
  ctx.moveTo(x + width - 2, y + 2);
  ctx.lineTo(x + 2, y + height - 2);
  ctx.stroke();
}

/** A colour such as rgb(1, 2, 3) as the pixel of an image, which has its bytes in this order. */
function pixelOf(text) {
  const [red, green, blue] = text.match(/[\d.]+/g).map(Number);
  const bytes = new Uint8ClampedArray([red, green, blue, 255]);
  return new Uint32Array(bytes.buffer)[0];
}
