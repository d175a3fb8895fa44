// Where the frames of a stream end. Each function gets what has arrived of it and gives the size in bytes of the frame that
// begins there, and its length in samples at 24 kHz; null where it is not whole yet. A length of null marks what stands
// before the sound and belongs to every part of it.

const BITRATES = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160]; // MPEG-2, layer III, kbit/s
const RATES = [22050, 24000, 16000];

function mp3(bytes) {
  if (bytes.length < 10) return null;
  if (bytes[0] !== 0xff) return tag(bytes);
  const rate = RATES[(bytes[2] >> 2) & 3];
  const size = Math.floor((72000 * BITRATES[bytes[2] >> 4]) / rate) + ((bytes[2] >> 1) & 1);
  return bytes.length < size ? null : { size, samples: 576 };
}

// What stands before the first frame of an MP3, ID3, whose size has seven bits in a byte.
function tag(bytes) {
  const size = 10 + bytes.subarray(6, 10).reduce((sum, byte) => (sum << 7) | byte, 0);
  return bytes.length < size ? null : { size, samples: null };
}

function aac(bytes) {
  if (bytes.length < 7) return null;
  const size = ((bytes[3] & 3) << 11) | (bytes[4] << 3) | (bytes[5] >> 5);
  return bytes.length < size ? null : { size, samples: 1024 };
}

// Pages of Ogg. Each has the position, at 48 kHz, that it ends at; the first two have no sound.
function opus() {
  let pages = 0;
  let position = 0;
  return (bytes) => {
    if (bytes.length < 27 || bytes.length < 27 + bytes[26]) return null;
    const size = bytes.subarray(27, 27 + bytes[26]).reduce((sum, part) => sum + part, 27 + bytes[26]);
    if (bytes.length < size) return null;
    if (++pages <= 2) return { size, samples: null };
    const end = new DataView(bytes.buffer, bytes.byteOffset).getUint32(6, true);
    const samples = (end - position) / 2;
    position = end;
    return { size, samples };
  };
}

// A frame says nothing of its size: it ends where one with the next number begins. Of the last one, whose header is
// another, that makes a part of the one before it.
function flac() {
  let number = -1;
  return (bytes) => {
    if (number < 0) {
      const size = metadata(bytes);
      if (size) number = 0;
      return size && { size, samples: null };
    }
    if (bytes.length < 4) return null;
    const next = [...bytes.subarray(0, 4), ...numbered(number + 1)];
    for (let size = 5; (size = bytes.indexOf(0xff, size)) >= 0 && size + next.length <= bytes.length; size++) {
      if (next.every((byte, i) => bytes[size + i] === byte)) {
        number++;
        return { size, samples: 1024 };
      }
    }
    return null;
  };
}

// The size of the mark and the blocks before the first frame of FLAC.
function metadata(bytes) {
  let at = 4;
  for (let last = false; !last; ) {
    if (bytes.length < at + 4) return null;
    last = bytes[at] >= 128;
    at += 4 + ((bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3]);
  }
  return bytes.length < at ? null : at;
}

// A frame's number as FLAC writes it, which is UTF-8 for any number.
function numbered(number) {
  if (number < 0x80) return [number];
  const bytes = [];
  let room = 0x3f;
  for (; number > room; number >>= 6, room >>= 1) bytes.unshift(0x80 | (number & 0x3f));
  return [(0xff & ~(2 * room + 1)) | number, ...bytes];
}

// The size of what stands before the samples of a WAV; null until all of it is there.
export function wavHeader(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 12; at + 8 <= bytes.length; ) {
    const size = view.getUint32(at + 4, true);
    if (view.getUint32(at) === 0x64617461) return at + 8; // "data"
    at += 8 + size + (size % 2);
  }
  return null;
}

export const framings = { mp3: () => mp3, aac: () => aac, opus, flac };
