// Runs an exported decoder: one code in, one picture out. Activations lie as (height, width, channel), so that
// every inner loop walks over neighbouring numbers; all buffers are made once.

function bytesFromBase64(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

function floatsFromHalves(bytes) {
  const halves = new Uint16Array(bytes.buffer);
  const floats = new Float32Array(halves.length);
  for (let i = 0; i < halves.length; i++) {
    const exponent = (halves[i] >> 10) & 31, fraction = halves[i] & 1023;
    const size = exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24;
    floats[i] = halves[i] & 0x8000 ? -size : size;
  }
  return floats;
}

const pointwise = {
  relu: (x) => (x > 0 ? x : 0),
  leaky: (x, slope) => (x > 0 ? x : slope * x),
  silu: (x) => x / (1 + Math.exp(-x)),
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  tanh: (x) => Math.tanh(x),
};

// Each maker takes a layer's description (c, h, width: the shape before it; w, b: where its weights begin) and
// returns run(x) -> y.
const makers = {
  linear(layer, weights) { // weights (in, out)
    const y = new Float32Array(layer.out);
    return (x) => {
      y.set(weights.subarray(layer.b, layer.b + layer.out));
      for (let i = 0, w = layer.w; i < x.length; i++, w += layer.out) {
        for (let o = 0; o < layer.out; o++) y[o] += x[i] * weights[w + o];
      }
      return y;
    };
  },

  view({ c, h, width }) { // a flat (c, h, w) becomes (h, w, c)
    const y = new Float32Array(c * h * width);
    return (x) => {
      for (let k = 0; k < c; k++) for (let p = 0; p < h * width; p++) y[p * c + k] = x[k * h * width + p];
      return y;
    };
  },

  conv(layer, weights) {
    return gather(layer, weights, (at, cell) => at + cell - layer.p);
  },

  deconv(layer, weights) { // a transposed convolution, gathered: which input pixels reach this output pixel?
    return gather(layer, weights, (at, cell) => (at + layer.p - cell) / layer.s);
  },

  norm({ c, h, width, groups, eps, w, b }, weights) {
    const n = c / groups, pixels = h * width, count = n * pixels;
    const y = new Float32Array(c * pixels);
    return (x) => {
      for (let first = 0; first < c; first += n) {
        let sum = 0, squares = 0;
        for (let p = 0; p < pixels; p++) for (let k = first; k < first + n; k++) sum += x[p * c + k];
        const mean = sum / count;
        for (let p = 0; p < pixels; p++) for (let k = first; k < first + n; k++) squares += (x[p * c + k] - mean) ** 2;
        const scale = 1 / Math.sqrt(squares / count + eps);
        for (let k = first; k < first + n; k++) {
          const gain = weights[w + k] * scale, shift = weights[b + k] - mean * gain;
          for (let p = 0; p < pixels; p++) y[p * c + k] = x[p * c + k] * gain + shift;
        }
      }
      return y;
    };
  },

  up({ c, h, width }) { // nearest neighbour, twice the size
    const y = new Float32Array(4 * c * h * width);
    return (x) => {
      for (let Y = 0; Y < 2 * h; Y++) for (let X = 0; X < 2 * width; X++) {
        const from = ((Y >> 1) * width + (X >> 1)) * c, to = (Y * 2 * width + X) * c;
        for (let k = 0; k < c; k++) y[to + k] = x[from + k];
      }
      return y;
    };
  },

  shuffle({ c, h, width }) { // four channels become one of twice the size
    const y = new Float32Array(c * h * width), out = c / 4;
    return (x) => {
      for (let Y = 0; Y < 2 * h; Y++) for (let X = 0; X < 2 * width; X++) {
        const from = ((Y >> 1) * width + (X >> 1)) * c + (Y & 1) * 2 + (X & 1), to = (Y * 2 * width + X) * out;
        for (let k = 0; k < out; k++) y[to + k] = x[from + 4 * k];
      }
      return y;
    };
  },
};

// Both convolutions: for each output pixel, its taps (input pixel, kernel cell), then four output channels at
// once. `source` tells which input row (or column) a kernel cell reads for an output row (or column).
// Weights (out, kernel row, kernel column, in), padded to a multiple of four outputs.
function gather({ c, h, width, k, out, H, W, w, b }, weights, source) {
  const row = k * k * c, padded = (out + 3) & ~3;
  const kernel = new Float32Array(padded * row), bias = new Float32Array(padded);
  kernel.set(weights.subarray(w, w + out * row));
  bias.set(weights.subarray(b, b + out));
  const inside = (at, size) => Number.isInteger(at) && at >= 0 && at < size;
  const taps = [...Array(H * W).keys()].map((pixel) => Int32Array.from(tapsOf(pixel)));
  function* tapsOf(pixel) {
    for (let r = 0; r < k; r++) for (let q = 0; q < k; q++) {
      const y = source(Math.floor(pixel / W), r), x = source(pixel % W, q);
      if (inside(y, h) && inside(x, width)) yield* [(y * width + x) * c, (r * k + q) * c];
    }
  }
  const y = new Float32Array(H * W * out), four = new Float32Array(4);
  return (x) => {
    for (let pixel = 0; pixel < H * W; pixel++) {
      const list = taps[pixel];
      for (let o = 0; o < padded; o += 4) {
        let a0 = bias[o], a1 = bias[o + 1], a2 = bias[o + 2], a3 = bias[o + 3];
        for (let t = 0; t < list.length; t += 2) {
          const from = list[t], k0 = o * row + list[t + 1], k1 = k0 + row, k2 = k1 + row, k3 = k2 + row;
          for (let i = 0; i < c; i++) {
            const v = x[from + i];
            a0 += v * kernel[k0 + i]; a1 += v * kernel[k1 + i];
            a2 += v * kernel[k2 + i]; a3 += v * kernel[k3 + i];
          }
        }
        four[0] = a0; four[1] = a1; four[2] = a2; four[3] = a3;
        for (let j = 0; j < 4 && o + j < out; j++) y[pixel * out + o + j] = four[j];
      }
    }
    return y;
  };
}

function makeDecoder({ layers, weights: text }) {
  const weights = floatsFromHalves(bytesFromBase64(text));
  const steps = layers.map((layer) => {
    if (makers[layer.t]) return makers[layer.t](layer, weights);
    const f = pointwise[layer.t], { slope } = layer;
    return (x) => { for (let i = 0; i < x.length; i++) x[i] = f(x[i], slope); return x; };
  });
  return (z) => steps.reduce((x, step) => step(x), Float32Array.from(z));
}
